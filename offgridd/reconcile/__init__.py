"""The one loop: wake, observe, plan, act, record."""
