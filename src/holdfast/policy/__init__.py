"""What the policies are made of: arguments, metrics, thresholds, verdicts, claims and plans.

Users meet `holdfast.when`, `holdfast.keep` and `holdfast.stop`; this package lies below them and
imports none of them. Like them it is pure: values in, values out, standard library only.
"""
