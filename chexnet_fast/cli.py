"""The command line: which commands there are, and how their errors end."""

import argparse
import sys
from collections.abc import Sequence

from tyro.extras import SubcommandApp

from chexnet_fast import commands_bench, commands_data, commands_model
from chexnet_fast.config import RECIPES, TrainConfig
from shards.errors import UserError


def main() -> None:
    """Run a command; print a user's error as one line and exit with status 2."""
    try:
        app = build_app(chosen_recipe(sys.argv))
        app.cli(prog="chexnet-fast", description="CheXNet retraining at the speed of the hardware.")
    except UserError as error:
        print(f"chexnet-fast: {error}", file=sys.stderr)
        sys.exit(2)


def build_app(recipe: TrainConfig) -> SubcommandApp:
    """Return all commands, in the order in which a user meets them; train's options default to the recipe's values."""
    bench = SubcommandApp()
    bench.command(commands_bench.loaders)
    bench.command(commands_bench.training)
    bench.command(commands_bench.jpeg)
    bench.command(commands_bench.quality)
    bench.command(commands_bench.pack)
    bench.command(commands_bench.codecs)
    app = SubcommandApp()
    app.command(commands_model.demo)
    app.command(commands_data.phantom)
    app.command(commands_data.download)
    app.command(commands_data.pack)
    app.command(commands_data.verify)
    app.command(commands_data.relabel)
    app.command(commands_data.explore)
    app.command(name="train")(commands_model.train_command(recipe))
    app.command(commands_model.import_weights)
    app.command(commands_model.evaluate)
    app.command(commands_model.score)
    app.command(commands_model.heatmap)
    app.command(commands_model.plot)
    app.command(commands_model.export)
    app.command(bench, name="bench", help="Measure loaders, training, packing and codecs beside their references.")
    return app


def chosen_recipe(arguments: Sequence[str]) -> TrainConfig:
    """Return the recipe that --recipe names among the arguments; `reference` if it is not there.

    Raises:
        UserError: if there is no such recipe.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="reference")
    name = parser.parse_known_args(arguments)[0].recipe
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()
