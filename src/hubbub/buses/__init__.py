"""How nodes shout to each other and hand out runs. Each module is one implementation of `core.ports.Bus`."""
