"""Distribution of a run over devices: meshes, shardings, many seeds, many hosts, compiler options."""
