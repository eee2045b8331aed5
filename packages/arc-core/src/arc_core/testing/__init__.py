"""Aids for tests of this project and of outside methods: a CUDA device that is only pretended (`pretend_gpu`)."""
