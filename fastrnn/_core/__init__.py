"""The compiled kernels and the time loop; empty where the package was built without a compiler."""
