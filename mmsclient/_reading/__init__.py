"""What is read in several calls: listings, replies, delivery."""
