"""How fast a machine is: binary layers, steps of a network and whole pictures, native, reference and upstream style."""
