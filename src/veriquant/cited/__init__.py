"""What papers print, as cited data: one YAML file a table, facts only, so that figures can stand beside it."""

from veriquant.cited.table import CITED, CitedColumn, CitedModel, CitedRow, CitedTable, load_cited

__all__ = ["CITED", "CitedColumn", "CitedModel", "CitedRow", "CitedTable", "load_cited"]
