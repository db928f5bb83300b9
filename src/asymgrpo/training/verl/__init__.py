"""The verl backend: a plug-in for verl, and what runs verl as one training run of the DAG.

=====================  =======================================================================================
``plugin``             estimators and loss for verl's registries; usable by any verl user without the rest
``overrides``          run spec -> verl's Hydra overrides (pure; needs no verl)
``launch``             run spec -> run directory: prepares data, starts verl, resumes, collects
``main``               the process that is started: verl's own entry point with our trainer
``trainer``            verl's synchronous trainer, which also measures what steps.parquet needs
``reward``             verl's reward manager over the project's verifiers
``journal``            what the trainer writes as it goes, and how it is read after any number of restarts
``cpu``, ``cpu_vllm``  verl and vLLM on a CPU, for tests and the smoke scale
=====================  =======================================================================================

This file imports nothing, because verl imports the modules above at moments of its own.
"""
