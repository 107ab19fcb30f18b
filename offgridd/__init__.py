"""offgridd: keeps a machine's local language models as a YAML file says they should be."""

__version__ = "0.1.0.dev0"
