"""The GauGAN baseline (NoduleGAN): one pass from a semantic map and noise to an image.

After "Semantic Image Synthesis with Spatially-Adaptive Normalization" (Park et al., arXiv 1903.07291).
A step of training generates the images once and uses them twice::

    iterate_once(generator), iterate_once(encoder), iterate_once(discriminator)  # spectral normalisation
    encoding = encoder(real)
    fake = generator(maps, reparameterise(encoding, noise))
    generator_loss(discriminator, maps, real, fake, encoding).total.backward()  # steps generator, encoder
    discriminator_loss(discriminator, maps, real, fake).total.backward()        # steps the discriminator
    average.update(folded_state(generator))                                     # the moving average

``generator_loss`` leaves no gradient in the discriminator; where that one is wrapped for data parallelism,
it takes the module inside the wrapper. Images are float [N, C, H, W] in [-1, 1].
"""
