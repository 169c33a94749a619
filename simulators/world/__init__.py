"""The virtual world: the whole platform, devices and visitors in one thread, from one seed."""
