"""Names of networks and of their tensors, as timm has them; from papers, torchvision, Hugging Face, DeiT."""
