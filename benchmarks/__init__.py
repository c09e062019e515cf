"""Benchmarks: one file or folder a question. A Ray that one of them starts is private to it."""

from services.common.ray_environment import keep_ray_private

keep_ray_private()
