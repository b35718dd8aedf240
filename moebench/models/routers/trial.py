"""Routers of installed packages, tried: what they turn out to be when they are built and route a few tokens.

A class declares whether it is causal and learned, which options and losses of a mixture it reads, and, unless its
weights are one projection of the width to the experts, how many multiply-adds it makes. What can be counted is not
asked for: it is built and counted. What would fail in training, or is not as declared, is refused before anything is
trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from moebench.models.lazy import Tensor, torch
from moebench.models.routers import Router, Routing, Text, installed, router_class
from moebench.models.routers.facts import RouterFacts
from moebench.models.routers.options import MoEFFN
from moebench.plugins import PluginError, cause, place
from moebench.text import listed, plain

_T = TypeVar("_T")
_TOKENS = 256
"""Of each of the two sequences that are routed to try a router, at most."""


def describe(ffn: MoEFFN, *, width: int, vocab: int, context: int, layers: Sequence[int]) -> RouterFacts:
    """Builds the router of some layers, counts it and routes a few tokens.

    Raises PluginError with file, line and cause when it fails, or is not what it declares.
    """
    made = router_class(ffn.router)
    trial = _Trial(ffn=ffn, width=width, vocab=vocab, length=min(context, _TOKENS), made=made)
    with torch.random.fork_rng(devices=[]):
        routers = [trial.built(layer) for layer in layers]
        counts = {router.num_weights() for router in routers}
        if len(counts) > 1:
            raise trial.refused(f"has {listed(sorted(map(str, counts)), last='and')} parameters in different layers")
        first = routers[0]
        trial.comes_from_its_seed(layers[0])
        trial.learns_as_declared(first)
        fewer = trial.routes(first)
        if made.learned and ffn.top_k == 1 and ffn.experts > 1:
            trial.has_a_gradient(first)
        total, trained = counts.pop(), sum(p.numel() for p in first.parameters() if p.requires_grad)
        return RouterFacts(
            causal=made.causal,
            learned=made.learned,
            losses=tuple(map(str, made.auxiliary)),
            even=made.even,
            fewer="always" if fewer else None,
            selection_bias=made.selection_bias,
            parameters=total,
            untrained_parameters=total - trained,
            multiply_adds=trial.multiply_adds(first, training=False),
            training_multiply_adds=trial.multiply_adds(first, training=True),
            code=installed.code(ffn.router, made),
        )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A router on two short sequences of random tokens."""

    ffn: MoEFFN
    width: int
    vocab: int
    length: int
    made: type[Router]

    @property
    def losses(self) -> tuple[str, ...]:
        return tuple(map(str, self.made.auxiliary))

    def refused(self, why: str) -> PluginError:
        return PluginError(f"the router {self.ffn.router} ({place(self.made)}) {why}")

    def tried(self, what: str, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"the router {self.ffn.router} {what}: {cause(error, self.made.__module__)}") from error

    def built(self, layer: int) -> Router:
        def build() -> Router:
            router = self.made(self.ffn, width=self.width, vocab=self.vocab, layer=layer)
            with torch.no_grad():
                router.initialise(0, f"layers.{layer}.ffn.router")
            self.made.output_scale(self.ffn)
            return router

        return self.tried("cannot be built", build)

    def comes_from_its_seed(self, layer: int) -> None:
        """Its weights are those of the seed, whatever was drawn before."""
        torch.manual_seed(1)
        one = self.built(layer).state_dict()
        torch.manual_seed(2)
        other = self.built(layer).state_dict()
        drawn = [name for name, value in one.items() if not torch.equal(value, other[name])]
        if drawn:
            raise self.refused(f"has weights that are not of the seed: fill {listed(drawn)} in `initialise`")

    def learns_as_declared(self, router: Router) -> None:
        trained = any(p.requires_grad for p in router.parameters())
        if trained is not self.made.learned:
            has = "has weights that are trained" if trained else "has no weight that is trained"
            raise self.refused(f"says learned = {self.made.learned}, but {has}: write `learned = {trained}`")

    def routes(self, router: Router) -> bool:
        """Checks routings in training and evaluation; whether they give a token fewer than top_k experts."""
        ids_BT = torch.randint(self.vocab, (2, self.length))
        x_TD = torch.randn(2 * self.length, self.width)
        fewer = []
        for training in (True, False):
            router.train(training)
            routing = self.tried("cannot route", lambda: router.choose(x_TD.clone(), self._text(ids_BT)))
            self._is_sound(routing)
            fewer.append(routing.per_token != self.ffn.top_k)
        if self.made.causal:
            self._is_causal(router, x_TD, ids_BT)
        return any(fewer)

    def _text(self, ids_BT: Tensor) -> Text:
        return Text(ids_BT=ids_BT.clone(), generator=torch.Generator().manual_seed(0))

    def _is_sound(self, routing: object) -> None:
        if not isinstance(routing, Routing):
            raise self.refused(
                f"gives {type(routing).__name__} from `choose`: a moebench.models.routers.Routing is needed"
            )
        token_N, expert_N, weight_N = routing.token_N, routing.expert_N, routing.weight_N
        if not len(token_N) == len(expert_N) == len(weight_N):
            raise self.refused("gives different numbers of tokens, experts and weights")
        if token_N.dtype != torch.int64 or expert_N.dtype != torch.int64:
            raise self.refused(f"gives tokens and experts as {token_N.dtype} and {expert_N.dtype}: both are int64")
        if len(token_N) and bool((token_N.diff() < 0).any() | (token_N[-1] >= 2 * self.length) | (token_N[0] < 0)):
            raise self.refused("gives pairs that are not in the order of its tokens")
        if len(expert_N) and not 0 <= int(expert_N.min()) <= int(expert_N.max()) < self.ffn.experts:
            raise self.refused(f"chooses experts outside 0 to {self.ffn.experts - 1}")
        if not bool(torch.isfinite(weight_N).all()):
            raise self.refused("gives weights that are not finite")
        if undeclared := sorted(set(routing.losses) - set(self.losses)):
            now = ", ".join(repr(loss) for loss in (*self.losses, *undeclared))
            raise self.refused(
                f"gives {listed(undeclared, last='and')} without declaring it: write `auxiliary = ({now},)`"
            )

    def _is_causal(self, router: Router, x_TD: Tensor, ids_BT: Tensor) -> None:
        """The first half of a sequence is routed alike whatever follows, and whatever stands in other sequences."""
        half = self.length // 2
        later = torch.arange(2 * self.length) >= half
        other_TD = torch.where(later[:, None], torch.randn_like(x_TD), x_TD)
        other_BT = torch.where(later.view(2, -1), torch.randint_like(ids_BT, self.vocab), ids_BT)
        router.eval()
        with torch.no_grad():
            one, two = (
                _weights(router.choose(x.clone(), self._text(ids)), half, self.ffn.experts)
                for x, ids in ((x_TD, ids_BT), (other_TD, other_BT))
            )
        if not torch.allclose(one, two, rtol=1e-3, atol=1e-5):
            raise self.refused(
                "says causal = True, but a token's experts or weights change with later tokens or other sequences: "
                "write `causal = False`, or mend `choose`"
            )

    def has_a_gradient(self, router: Router) -> None:
        """With one expert a token, weights that are always 1 leave the router nothing to learn from."""
        router.train()
        x_TD = torch.randn(2 * self.length, self.width)
        ids_BT = torch.randint(self.vocab, (2, self.length))
        weight_N = router.choose(x_TD, self._text(ids_BT)).weight_N
        trained = [p for p in router.parameters() if p.requires_grad]
        total = (weight_N * torch.randn(weight_N.shape)).sum()
        gradients = torch.autograd.grad(total, trained, allow_unused=True) if total.requires_grad else []
        if not any(g is not None and float(g.abs().max()) > 1e-6 for g in gradients):
            raise self.refused(
                "gives its one expert a weight that depends on none of its parameters (top_k: 1), so it learns nothing "
                "from the loss: give the expert's probability as its weight"
            )

    def multiply_adds(self, router: Router, *, training: bool) -> int:
        """As declared; those of one projection where nothing is declared and the weights are of that number."""
        declared = self.tried(
            "does not give its multiply_adds",
            lambda: self.made.multiply_adds(self.ffn, width=self.width, training=training),
        )
        matrices = sum(p.numel() for p in router.parameters() if p.ndim >= 2)
        projection = self.ffn.experts * self.width
        if declared is not None:
            if isinstance(declared, bool) or not isinstance(declared, int) or declared < 0:
                raise self.refused(f"gives multiply_adds {plain(declared)}: a whole number, of one token")
            return declared
        if matrices not in (0, projection):
            raise self.refused(
                f"has {matrices:,} weights, one projection of the width to the experts has {projection:,}: say what "
                "it computes for a token, as `@classmethod def multiply_adds(cls, ffn, *, width, training): return ...`"
            )
        return matrices


def _weights(routing: Routing, tokens: int, experts: int) -> Tensor:
    """Weight of each expert for each of the first tokens, [tokens, experts]."""
    first = routing.token_N < tokens
    weights_TE = torch.zeros(tokens, experts)
    weights_TE[routing.token_N[first], routing.expert_N[first]] = routing.weight_N[first].float()
    return weights_TE
