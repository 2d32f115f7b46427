"""Where the truth is kept. Each module is one implementation of `core.ports.Store`."""
