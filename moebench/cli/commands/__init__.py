"""The `moebench` command: click, and no logic of its own. One file a group of commands.

Each command imports what it needs when it is called, so that `moebench --help` answers at once. Results go to standard
output, progress and warnings to standard error. Exit codes: 0 done, 1 a claim failed under `--strict`, 2 the input is
wrong, 3 some runs failed, 130/143 stopped after a checkpoint.
"""

from __future__ import annotations

import click

import moebench
from moebench.cli.commands.lookup import inspect, list_, schema, validate
from moebench.cli.commands.report import compare, judge, reference, report, status
from moebench.cli.commands.run import plan, run
from moebench.cli.commands.trained import export, generate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(moebench.__version__, prog_name="moebench")
def main() -> None:
    """Settle arguments about Mixture-of-Experts versus dense models.

    A suite file goes in: matched models, identical data, claims. A report comes out that says supported, refuted or
    inconclusive, each with an interval.

    \b
    Examples:
      moebench run quickstart            a verdict in minutes on a laptop
      moebench plan quickstart           what would run, and what was matched
      moebench report                    rebuild reports from results
    """


for _command in (
    run,
    plan,
    report,
    status,
    compare,
    judge,
    reference,
    validate,
    schema,
    list_,
    inspect,
    generate,
    export,
):
    main.add_command(_command)
