"""What searches and syncs brought, kept for the day without a hub."""

from offgridd.effects.catalog.catalog import Catalog, Known

__all__ = ["Catalog", "Known"]
