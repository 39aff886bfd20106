"""A training that knows nothing of dolly_assets: gradient descent on a small network."""

import torch


def main() -> None:
    """Fit a network to the mean square of its inputs."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    inputs = torch.randn(4096, 64)
    targets = inputs.square().mean(dim=1, keepdim=True)
    for step in range(1, 301):
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
