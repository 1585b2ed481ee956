"""The command line: Hydra applications of a dozen lines each, around functions that take plain values.

The only place that knows Hydra and OmegaConf.
"""
