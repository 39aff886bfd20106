"""What the devices did: samples, phases and the report over them."""
