"""The grocer's real orders and products, as typed records and as the JSON the services exchange.

Source: 84.51° "The Complete Journey 2.0" (CC0); provenance in data/README.md.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path

import pandas as pd

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True, slots=True)
class Order:
    """One shopping basket. `amount` is in USD; it is 0 for 478 of them, which no card can be charged."""

    id: int
    placed_at: datetime
    customer: int
    store: int
    lines: int
    amount: float
    department: str

    @property
    def cents(self) -> int:
        """The amount in whole cents, for sums that must agree exactly."""
        return round(self.amount * 100)

    @property
    def correlation_id(self) -> str:
        """A UUID of the order's own, the same in every run."""
        return _uuid_of(self.id)

    def payload(self) -> bytes:
        """The order as the Order Service publishes it."""
        return json.dumps(
            {
                "id": str(self.id),
                "customerId": str(self.customer),
                "storeId": str(self.store),
                "lines": self.lines,
                "amount": self.amount,
                "department": self.department,
                "placedAt": self.placed_at.isoformat(),
                "correlationId": self.correlation_id,
            }
        ).encode()


@lru_cache  # a header asks for it, then the payload
def _uuid_of(id: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(id)))


@dataclass(frozen=True, slots=True)
class Product:
    """One of the 200 best-selling products. `unit_price` in USD; `units_sold` in the year."""

    id: str
    name: str
    category: str
    department: str
    unit_price: float
    units_sold: int


@cache
def frame() -> pd.DataFrame:
    """All 155,848 orders by time, a row each.

    Columns: order_id, placed_at (UTC), customer_id, store_id, lines, amount (USD), department.
    """
    orders = pd.read_csv(DATA / "orders.csv.gz", parse_dates=["placed_at"])
    return orders.assign(placed_at=orders["placed_at"].dt.tz_localize(UTC))


def orders(count: int, start: int = 0) -> list[Order]:
    """`count` orders from row `start` on, in the order of their time."""
    rows = frame().iloc[start : start + count]
    return [
        Order(row[0], row[1].to_pydatetime(), *row[2:]) for row in rows.itertuples(index=False, name=None)
    ]


def of_regulars(count: int, customers: int) -> list[Order]:
    """The first `count` orders of the `customers` who order most among the year's first 20,000 baskets."""
    early = orders(20_000)
    regulars = pd.Series([order.customer for order in early]).value_counts().index[:customers]
    return [order for order in early if order.customer in regulars][:count]


def by_hour(batch: list[Order]) -> pd.Series:
    """The amounts of these orders in whole cents, summed for each hour in which some were placed."""
    hours = [pd.Timestamp(order.placed_at).floor("h") for order in batch]
    return pd.Series([order.cents for order in batch]).groupby(hours).sum()


@cache
def products() -> dict[str, Product]:
    """The 200 products by their ID."""
    rows = pd.read_csv(DATA / "products.csv", dtype={"product_id": str})
    return {row[0]: Product(*row) for row in rows.itertuples(index=False, name=None)}
