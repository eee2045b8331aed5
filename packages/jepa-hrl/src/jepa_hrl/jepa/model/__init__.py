"""The encoder of objects and the predictor of output latents."""
