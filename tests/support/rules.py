"""Every rule there is, as jobs name it, with what the reference implementation must know of it."""

from hpcq.job.choices import RULES, rule_options
from hpcq.learning import rule

# Values of a rule's own keys for tests, where the defaults would test too little.
OPTIONS = {"maxmin": {"tables": 3}, "weighted_double_q": {"weight_constant": 0.3}}
ALONE = [name for name in RULES if not rule.find(name).self_play]


def learning(name, **keys):
    """Return a section [learning] with this rule."""
    return {"rule": name, **OPTIONS.get(name, {}), **keys}


def traits(job):
    """Return the arguments of `reference.learn` that follow from a job's rule."""
    found = rule.find(job.learning.rule)
    tables = found.tables
    if isinstance(tables, str):
        tables = getattr(job.learning, tables)
    return {
        "rule": job.learning.rule,
        "tables": tables,
        "combine": found.combine,
        "off_policy": found.off_policy,
        "self_play": found.self_play,
        "options": {name: getattr(job.learning, name) for name in rule_options(job.learning.rule)},
    }
