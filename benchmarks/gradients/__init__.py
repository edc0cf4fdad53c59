"""What gradients cost and how right they are: problem by solver by gradient method."""
