"""What happens to an input before the network sees it."""
