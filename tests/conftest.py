from hypothesis import settings

# Machines are noisy: how long an example takes says nothing about the rule it tests.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
