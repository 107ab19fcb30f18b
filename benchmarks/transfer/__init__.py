"""What fetching a file costs, beside other clients of the same hub: `make bench-transfer`."""
