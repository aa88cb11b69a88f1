"""An exchange for one process whose learner calls the kernels of a tick one by one.

The kernel of a whole tick takes longer to compile than those of its phases together, and is another
one for each rule, policy and environment. unit/test_methods.py holds that both come to the same.
"""

from hpcq.exchange import make_exchange


def by_phase(*arguments):
    """Return the exchange, as `make_exchange` does."""
    found = make_exchange(*arguments)
    found.direct = False
    return found
