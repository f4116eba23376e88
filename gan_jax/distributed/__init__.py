"""Where a run lies on its devices: meshes, shardings, many seeds, many hosts, compiler options."""
