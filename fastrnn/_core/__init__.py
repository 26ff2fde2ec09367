"""Compiled kernels and the time loop. Imports no Python of ours; absent where the package was built without a compiler."""
