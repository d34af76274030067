"""A model of many nodes, by what was measured of few: see docs/scaling.md."""
