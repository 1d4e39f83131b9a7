"""What a stage can give a merge method, and why a method is not permitted there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from neulig_fl.core.errors import NotAvailable
from neulig_fl.merging.method_needs import Needs
from neulig_fl.study.mixture_inputs import Experts, MixtureInputs

NO_COUNTERPART = "the method has no ensemble counterpart"


class Given(Protocol):
    """What came of asking for a sum."""

    @property
    def experts(self) -> Experts:
        """Whose records are in it, in the scenario's order."""
        ...


SumGiven = TypeVar("SumGiven", bound=Given)


@dataclass(frozen=True)
class Reach:
    """What a stage can give merge methods.

    Args:
        inputs: what the stage has released, or shares within sums.
    """

    inputs: MixtureInputs

    def unmet(self, needs: Needs) -> str | None:
        """Why a method is not permitted here; None when it is, as far as is known."""
        lacking = [kind for kind in needs.each if not self._giving(kind)]
        lacking += [
            kind for kind in needs.sums if not self._giving(kind) and not self.inputs.in_sums(kind)
        ]
        if lacking:
            return f"needs {', '.join(needs.released)}"
        experts = self.experts(needs)
        if not experts:
            return f"needs {', '.join(needs.released)}, and no client gives all of it"
        if needs.experts is not None and len(experts) != needs.experts:
            return f"needs {needs.experts} experts; here are {len(experts)}"
        return None

    def experts(self, needs: Needs) -> Experts:
        """Clients that give what a method needs, in order; sums may leave some of them out."""
        given = [givers for k in (*needs.each, *needs.sums) if (givers := self._giving(k))]
        everyone = self.inputs.known.clients
        return tuple(name for name in everyone if all(name in givers for givers in given))

    def collected(
        self, needs: Needs, ask: Callable[[str, Experts], SumGiven]
    ) -> tuple[Experts, dict[str, SumGiven]]:
        """Whose experts are merged, and the sums that the method reads here.

        Args:
            needs: of the method.
            ask: asks some clients for the sum of a kind of record, under the weights of a simple
                average, which clients who let that pass have let pass before.

        Raises:
            NotAvailable: what it needs is not released, or a sum is refused.
        """
        problem = self.unmet(needs)
        if problem is not None:
            raise NotAvailable(problem)
        experts = self.experts(needs)
        found: dict[str, SumGiven] = {}
        for kind in (kind for kind in needs.sums if not self._giving(kind)):
            summed = ask(kind, experts)
            if found and summed.experts != experts:
                missing = ", ".join(name for name in experts if name not in summed.experts)
                raise NotAvailable(f"the sum of {kind} is without {missing}, the others are not")
            experts, found[kind] = summed.experts, summed
        return experts, found

    def answering(self, needs: Needs, merged: Experts) -> Experts:
        """Whose outputs an ensemble counterpart mixes: the merged experts' where some are merged.

        Args:
            needs: of the method.
            merged: whose experts are merged; nobody's where nothing is.

        Raises:
            NotAvailable: there is no counterpart, or not every expert's outputs are known.
        """
        if not needs.outputs:
            raise NotAvailable(NO_COUNTERPART)
        released, group = self.inputs.known, self.inputs.stage.group
        known = [released.sharing(group, queries) for queries in needs.outputs]
        there = [n for n in released.clients if all(n in names for names in known)]
        wanted = merged or tuple(there)
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            on = " and ".join(needs.outputs)
            who = f", and not from {', '.join(missing)}" if missing and there else ""
            raise NotAvailable(f"no ensemble: needs {released.kind} of each client on {on}{who}")
        return wanted

    def _giving(self, kind: str) -> Experts:
        return self.inputs.known.giving(self.inputs.stage.group, kind)
