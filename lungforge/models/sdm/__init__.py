"""The semantic diffusion model: network, diffusion process, samplers, moving average, checkpoints.

After "Semantic Image Synthesis via Diffusion Models" (Wang et al., arXiv 2207.00050).
"""
