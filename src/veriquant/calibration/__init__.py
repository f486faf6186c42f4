"""From a network and unlabelled images to a simulated network whose quantizers are fitted, ready to be allocated."""
