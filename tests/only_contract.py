"""An import contract that lists what is allowed, for import-linter (pyproject.toml)."""

from __future__ import annotations

import sys
from typing import Any

from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """What modules below `source` import of `package` lies below one of `allowed`.

    `package` is one of ours, or `external` for every package that is neither ours nor Python's.
    Only direct imports count: what is allowed may import what it wants.
    """

    source: Any = fields.ListField(subfield=fields.ModuleField())
    package: Any = fields.StringField()
    allowed: Any = fields.ListField(subfield=fields.StringField())

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        """Look at every import."""
        found = [
            f"{importer} imports {imported}"
            for root in self.source
            for importer in sorted({root.name, *graph.find_descendants(root.name)})
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if self._counts(graph, imported) and not self._is_allowed(imported)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each import that is not allowed."""
        for sentence in check.metadata["found"]:
            output.print_error(sentence)

    def _counts(self, graph: Any, module: str) -> bool:
        if self.package == "external":
            top = module.partition(".")[0]
            return graph.is_module_squashed(module) and top not in sys.stdlib_module_names
        return f"{module}.".startswith(f"{self.package}.")

    def _is_allowed(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{each}.") for each in self.allowed)
