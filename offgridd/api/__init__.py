"""HTTP: checks bytes, asks the loop's snapshot or a worker, and shapes answers. Decides nothing about models."""
