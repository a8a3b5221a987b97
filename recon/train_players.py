"""Who learns in a training: one network, or several players who take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .losses.adversarial import clip_weights
from .problem import Problem
from .train_config import TrainingConfig, optimiser, within

Loss = Callable[[Problem, Tensor, torch.Generator], Tensor | Mapping[str, Tensor]]

MOST = 1024
"""Steps of all players in one cycle, at most: draws are numbered by cycle · MOST + step."""


@dataclass(frozen=True)
class Player:
    """One who lowers a loss of its own over weights of its own; a step of training is a cycle over all.

    name : before the names of its losses: "generator" with a term "l1" is "generator/l1"
    module : whose parameters are its own, a part of the network that is trained; nobody else's get a gradient
        in its steps
    loss : (problem, images, generator) -> a number, or numbers by name whose sum is lowered
    steps : it takes in a cycle, one after the other; or a function of the cycle's number, which may say 0
    config : its optimiser, rate, schedule, clip and average; None for those of the training. What concerns
        all (steps, batches, seed, precision) is the training's
    fresh : draw a batch for each of its steps; else the cycle's batch serves
    bound : its weights are kept in [−bound, bound] after every step (WGAN); None for no bound
    """

    name: str
    module: nn.Module
    loss: Loss
    steps: int | Callable[[int], int] = 1
    config: TrainingConfig | None = None
    fresh: bool = False
    bound: float | None = None

    def times(self, cycle: int) -> int:
        """How many steps it takes in this cycle, the first being 0."""
        n = self.steps if isinstance(self.steps, int) else self.steps(cycle)
        within(f"Player {self.name} steps", n, 0, MOST)
        return n


class Turn:
    """A player in a training: its weights by their names in the network, and their optimiser."""

    def __init__(self, player: Player, named: Mapping[str, nn.Parameter], config: TrainingConfig):
        own = {id(p) for p in player.module.parameters()}
        self.player = player
        # schedules are over the steps of the training, whatever a player's own configuration says
        self.config = replace(player.config, steps=config.steps) if player.config else config
        self.named = {k: p for k, p in named.items() if id(p) in own}
        if not self.named or len(self.named) != len(own):
            raise ValueError(
                f"train players: expected the module of {player.name!r} to be a part of the network with "
                f"weights, {len(self.named)} of its {len(own)} are the network's"
            )
        self.optimizer = optimiser(self.config, self.named.values())

    def bound(self) -> None:
        """Keep the weights where the player has bounded them."""
        if self.player.bound is not None:
            clip_weights(self.named.values(), self.player.bound)

    def named_terms(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of its loss with its name before them."""
        player = self.player.name
        return {(f"{player}/{k}" if k and player else k or player): v for k, v in terms.items()}


def turns(
    network: nn.Module, loss: Loss | Sequence[Player], config: TrainingConfig
) -> tuple[dict[str, nn.Parameter], list[Turn]]:
    """The weights by name, and who learns them in which order; ValueError where two would learn the same."""
    named = dict(network.named_parameters())
    players = [Player("", network, loss)] if callable(loss) else list(loss)
    if not players:
        raise ValueError("train players: expected at least one, got none")
    found = [Turn(p, named, config) for p in players]
    names = [p.name for p in players]
    if len(players) > 1 and (len(set(names)) < len(names) or "" in names):
        raise ValueError(f"train players: expected different names, got {names}")
    seen: dict[str, str] = {}
    for turn in found:
        for k in turn.named:
            if k in seen:
                raise ValueError(
                    f"train players: {k} belongs to {seen[k]!r} and to {turn.player.name!r}; "
                    "every weight is one player's"
                )
            seen[k] = turn.player.name
    return named, found
