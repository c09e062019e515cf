"""The training."""

import torch

from lungforge.models.ema import MovingAverages
from lungforge.models.learner import Learner, SampleNeeds, Trained, gradients_shared, mean_over_workers
from toy_generator.network import ToyNetwork, ToySampler


class ToyLearner(Learner):
    """Squared error of the images."""

    METRICS = ("loss", "gradient_norm")
    WATCHED = ("loss",)

    def __init__(self, config, options, settings, *, distribute, averages):
        self.network, self.options = ToyNetwork(config), options
        self._distributed = distribute(self.network)
        super().__init__(
            settings,
            SampleNeeds(noise_shape=(1, config.image_size, config.image_size)),
            [Trained("network", self.network, torch.optim.Adam(self.network.parameters()))],
            MovingAverages(self.network.state_dict(), settings.average_lengths) if averages else None,
        )

    def step(self, micro_batches, step):
        total, count = torch.zeros(1, device=self.device), len(micro_batches)
        for index, micro_batch in enumerate(micro_batches, 1):
            with gradients_shared([self._distributed], share=index == count):
                batch = micro_batch.to(self.device)
                error = self._distributed(batch.maps, batch.noise) - batch.images
                loss = self.options.weight * error.square().mean() / count
                loss.backward()
            total += loss.detach()
        norm = self.trained[0].clip_grad_norm(self.settings.max_grad_norm)
        self.trained[0].step(self.rate(self.settings.learning_rate, step))
        if self.average is not None:
            self.average.update(self.network.state_dict())
        return torch.cat([mean_over_workers(total), norm[None]])

    def sampler(self):
        network = ToyNetwork(self.network.config)
        network.load_state_dict(self.average.weights)
        return ToySampler(network.to(self.device).eval())
