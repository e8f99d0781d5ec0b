"""What all tests share."""

import torch

# The suite runs on as many processes as there are cores: with torch's threads in each they wait for one another, and
# oracles take three times as long.
torch.set_num_threads(1)
