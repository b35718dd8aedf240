"""What `moebench inspect --all` prints."""

from __future__ import annotations

from typing import Any

from moebench.cli.console import printed, table
from moebench.format import compact


def systems_text(counts: dict[str, Any]) -> str:
    """`moebench inspect --all`: every published system in a row, the undisclosed by name."""
    title = (
        f"published systems at context {counts['context']:,}  (active*: without the input table; FLOPs: forward, per "
        "token; weights and cache per token in bfloat16; touched: experts of a layer at batch 1, 8, 64; "
        "saving: of the weights outside the tables, against equal total)"
    )
    columns = ["system", "year", "total", "active", "active*", "FLOPs", "weights", "cache", "touched", "saving",
               "published total", "published active"]  # fmt: skip
    counted = [one for one in counts["systems"] if one["params"] is not None]
    others = [one for one in counts["systems"] if one["params"] is None]
    names = ", ".join(one["name"] for one in counts["undisclosed"])
    lines = [f"  {one['model']}: {one['discrepancy']}" for one in counted if "discrepancy" in one]
    return printed(
        table(title, columns, map(_system_row, counted)),
        "",
        "published figures that the published sizes do not give (marked !):",
        *lines,
        "",
        "not counted:",
        *(f"  {one['model']} ({one['year']}): {one['why_not']}" for one in others),
        f"  undisclosed, so without numbers: {names}",
        "",
        f"convention: {counts['convention']}",
    )


def _system_row(one: dict[str, Any]) -> list[str]:
    params, touched = one["params"], one["experts_touched"]
    published = []
    for part in ("total", "active"):
        figure = one["published"].get(part)
        mark = "" if figure is None or figure["within_rounding"] else " !"
        published.append("-" if figure is None else f"{figure['figure']} {figure['error']:+.1%}{mark}")
    return [
        one["model"],
        str(one["year"]),
        compact(params["total"], "MBT"),
        compact(params["active"], "MBT"),
        compact(one["active_without_input_tables"], "MBT"),
        compact(one["forward_flops_per_token"], "MGT"),
        compact(one["weight_bytes"]["bfloat16"], "MGT") + "B",
        f"{one['kv_bytes_per_token']['bfloat16'] / 1000:,.0f} kB",
        " ".join(f"{touched[n]:.3g}" for n in ("1", "8", "64")) if touched else "-",
        f"{one['saving_against_equal_total']:.2%}",
        *published,
    ]
