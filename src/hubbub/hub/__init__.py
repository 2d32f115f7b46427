"""The house: the verbs and who may use them, sessions, fan-out, runs. Knows the ports, no implementation of them."""
