"""The router hierarchical: noisy_topk in two levels (Shazeer et al. 2017, arXiv:1701.06538, appendix B).

Legend: T tokens, E experts, K top-k, G groups, M experts of a group, J chosen groups, I chosen of a group.
"""

from __future__ import annotations

from moebench.models.lazy import Tensor, torch
from moebench.models.routers.losses import z_loss
from moebench.models.routers.noisy_topk import Gate, expected_load, importance, importance_loss, load_loss
from moebench.models.routers.options import Groups, MoEFFN, initial_scale, ungroupable
from moebench.models.routers.routing import Router, Routing, Text


class Hierarchical(Router):
    """Two levels of noisy top-k: groups first, then experts within each chosen group; weights multiply.

    All experts' logits are computed, of groups not chosen too; the paper computes only those of chosen groups.
    """

    source = "Shazeer et al. 2017, arXiv:1701.06538, appendix B"
    causal = True
    learned = True
    options = ("capacity_factor", "jitter", "router_scale", "groups", "groups_chosen")
    Options = Groups
    needs = ("groups", "groups_chosen")
    auxiliary = (z_loss, importance_loss, load_loss)
    sums_to_1 = "always"
    noisy = True

    @classmethod
    def rows(cls, ffn: MoEFFN) -> int:
        return ffn.experts + (ffn.groups or 0)

    @classmethod
    def unfit(cls, ffn: MoEFFN) -> tuple[str, str] | None:
        if (wrong := ungroupable(ffn)) is None and ffn.top_k % ffn.groups_chosen:
            text = f"top_k {ffn.top_k} is not shared equally by {ffn.groups_chosen} chosen groups"
            return "top_k", f"{text}: give a multiple of {ffn.groups_chosen}"
        return wrong

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.groups, self.groups_chosen = ffn.groups, ffn.groups_chosen
        self.per_group, self.chosen_per_group = ffn.experts // ffn.groups, ffn.top_k // ffn.groups_chosen
        self.group_gate = Gate(ffn.groups, width=width, scale=initial_scale(ffn))
        self.gate = Gate(ffn.experts, width=width, scale=initial_scale(ffn))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        group_clear_TG, group_noisy_TG, group_deviation_TG = self.group_gate(x_TD, text)
        clear_TE, noisy_TE, deviation_TE = self.gate(x_TD, text)
        chosen_TJ, groups_TJ = group_noisy_TG.topk(self.groups_chosen, dim=1)
        inside_TJM = self._of_groups(noisy_TE, groups_TJ)
        chosen_TJI, member_TJI = inside_TJM.topk(self.chosen_per_group, dim=2)
        weights_TK = (chosen_TJ.softmax(1)[:, :, None] * chosen_TJI.softmax(2)).flatten(1)
        experts_TK = (groups_TJ[:, :, None] * self.per_group + member_TJI).flatten(1)
        weights_TK, order_TK = weights_TK.sort(dim=1, descending=True, stable=True)
        experts_TK = experts_TK.gather(1, order_TK)

        def load() -> Tensor:
            """Eq. 13: load of the group times the expert's mean load among the tokens that came to the group."""
            if deviation_TE is None or group_deviation_TG is None:
                return torch.zeros((), device=x_TD.device)
            groups_G = expected_load(group_clear_TG, group_noisy_TG, group_deviation_TG, self.groups_chosen).sum(0)
            member_TJM = expected_load(
                self._of_groups(clear_TE, groups_TJ),
                self._of_groups(noisy_TE, groups_TJ),
                self._of_groups(deviation_TE, groups_TJ),
                self.chosen_per_group,
            )
            came_G = torch.bincount(groups_TJ.reshape(-1), minlength=self.groups)
            inner_GM = member_TJM.new_zeros(self.groups, self.per_group)
            inner_GM = inner_GM.index_add(0, groups_TJ.reshape(-1), member_TJM.flatten(0, 1))
            groups_G, inner_GM = self.over_batch("groups", groups_G), self.over_batch("inner", inner_GM)
            came_G = self.over_batch("came", came_G).clamp_min(1)
            return load_loss((groups_G[:, None] * inner_GM / came_G[:, None]).flatten())

        losses = {
            z_loss: lambda: z_loss(group_clear_TG) + z_loss(clear_TE),
            importance_loss: lambda: importance_loss(
                self.over_batch("importance", importance(weights_TK, experts_TK, self.experts))
            ),
            load_loss: load,
        }
        return self.full_routing(experts_TK, weights_TK, losses)

    def _of_groups(self, values_TE: Tensor, groups_TJ: Tensor) -> Tensor:
        """The values of the chosen groups' experts, [T, J, M]."""
        values_TGM = values_TE.view(-1, self.groups, self.per_group)
        return values_TGM.gather(1, groups_TJ[:, :, None].expand(-1, -1, self.per_group))

    def initialise(self, seed: int, prefix: str) -> None:
        self.group_gate.initialise(seed, f"{prefix}.groups")
        self.gate.initialise(seed, prefix)
