"""A loop of one's own, held to the scenarios: `traintrue run --trainer 'python my_adapter.py'`."""

from pathlib import Path

import torch
from torch.nn import Dropout, Embedding, Linear, Sequential

from traintrue.adapters.adapter import Adapter, Batch, Declined, Losses, Output, of_tokens


class Mine(Adapter):
    trainer = "my loop 1.0"
    capabilities = ("resume", "evaluation", "probes")
    conventions = {"normaliser": "tokens"}

    def build(self) -> None:
        if self.plan["train"]["dtype"] != "f32":
            raise Declined("this loop trains in float32 only")
        torch.manual_seed(self.plan["seed"])
        ids, p = self.plan["data"]["tokens"]["vocabulary"], self.plan["train"]["dropout"]
        self.model = Sequential(Embedding(ids, 16), Dropout(p), Linear(16, ids))
        self.optimizer = torch.optim.AdamW(self.groups(), **self.adamw())

    def forward(self, batch: Batch) -> Output:
        return of_tokens(self.model(batch["input_ids"]), batch)

    def step(self, batch: Batch) -> Losses:
        self.model.train()
        output = self.forward(batch)
        (output.losses["lm"] / self.window_targets()).backward()
        if self.closes():
            self.set_rate()
            if clip := self.plan["train"]["clip"]:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return output.sums()

    def save(self, root: Path) -> Path:
        folder = self.new_folder(root)
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state["gradients"] = [parameter.grad for parameter in self.model.parameters()]
        state["rng"], state["place"] = torch.get_rng_state(), self.place()
        torch.save(state, folder / "all.pt")
        return self.finished(folder)

    def load(self, root: Path, what: str) -> Path:
        folder = self.newest_folder(root)
        state = torch.load(folder / "all.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, gradient in zip(self.model.parameters(), state["gradients"]):
            parameter.grad = gradient
        torch.set_rng_state(state["rng"])
        self.resume(state["place"])
        return folder


if __name__ == "__main__":
    Mine.main()
