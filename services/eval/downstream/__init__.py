"""The downstream tasks: does training with synthetic slices help to classify and to find nodules?"""
