"""Train, evaluate and explain a DenseNet-121 on chest X-rays."""
