"""The data of the pharmacy's order system: what it holds, made up by a seed, in SQLite.

They hold no name, and fit together: a delayed order is past its promised date, a refill that is too soon has
a next fill date after today. All dates are counted from the day that the database is made for.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.text.check_digits import is_dea_number, is_npi

CUSTOMERS = 200
_PRESCRIBERS = 40
_SEED = 20_261_121
DEMO_CUSTOMER = "PT-204417"
DEMO_ORDER = "4471-2208"
DEMO_PRESCRIPTION = "7301842-04417"
"""Declared below, for demo and pages; all others are drawn."""

RefillStatus = Literal[
    "ready",
    "in_process",
    "shipped",
    "refillable",
    "too_soon",
    "waiting_for_prescriber",
    "no_refills",
    "out_of_stock",
    "on_hold",
]
OrderStatus = Literal["processing", "shipped", "out_for_delivery", "delivered", "delayed", "cancelled"]
Method = Literal["standard", "expedited"]
Schedule = Literal["", "C-II", "C-III", "C-IV", "C-V"]
"""Of the Controlled Substances Act; empty for what is not controlled."""

CustomerId = Annotated[str, Field(pattern=r"^PT-\d{6}$", examples=[DEMO_CUSTOMER])]
OrderId = Annotated[str, Field(pattern=r"^\d{4}-\d{4}$", examples=[DEMO_ORDER])]
PrescriptionId = Annotated[str, Field(pattern=r"^\d{7}-\d{5}$", examples=[DEMO_PRESCRIPTION])]
"""Number of the prescription, and of the store that filled it first."""
Npi = Annotated[str, Field(pattern=r"^[12]\d{9}$")]
_Text = Annotated[str, Field(max_length=120)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Prescription(_Body):
    """A prescription and its refill."""

    prescription_id: PrescriptionId
    customer_id: CustomerId
    medicine: _Text
    schedule: Schedule
    refill_status: RefillStatus
    refills_left: int = Field(ge=0, le=11)
    days_supply: int = Field(ge=1, le=100)
    last_fill_date: date
    next_fill_date: date | None
    """First day that the plan pays for; null where no refill is left."""
    automatic_refill: bool
    prescriber_npi: Npi
    store: str = Field(pattern=r"^\d{5}$")


class OrderLine(_Body):
    prescription_id: PrescriptionId
    medicine: _Text
    days_supply: int = Field(ge=1, le=100)


class Order(_Body):
    """A mail order."""

    order_id: OrderId
    customer_id: CustomerId
    status: OrderStatus
    placed_on: date
    promised_on: date
    method: Method
    refrigerated: bool
    signature_required: bool
    lines: list[OrderLine] = Field(max_length=20)


class Delivery(_Body):
    """Where an order's parcel is. Carrier and scans are null until it is shipped."""

    order_id: OrderId
    customer_id: CustomerId
    status: OrderStatus
    carrier: Literal["USPS", "UPS", "FedEx"] | None
    tracking_number: Annotated[str, Field(pattern=r"^[0-9A-Z]{10,34}$")] | None
    tracking_url: Annotated[str, Field(max_length=200, json_schema_extra={"format": "uri"})] | None
    last_scan: _Text | None
    last_scan_at: datetime | None
    promised_on: date
    delivered_at: datetime | None


class Prescriber(_Body):
    """How a prescriber's office takes requests for refills; nobody's data."""

    npi: Npi
    dea_number: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{7}$")] | None
    electronic_requests: bool
    usual_reply_days: int = Field(ge=0, le=30)


@dataclass(frozen=True, slots=True)
class _Medicine:
    name: str
    days_supply: tuple[int, ...]
    schedule: Schedule = ""
    refrigerated: bool = False


_METFORMIN = _Medicine("metformin 500 mg tablets", (30, 90))
_LISINOPRIL = _Medicine("lisinopril 10 mg tablets", (30, 90))
_ATORVASTATIN = _Medicine("atorvastatin 20 mg tablets", (30, 90))
_METHYLPHENIDATE = _Medicine("methylphenidate 10 mg tablets", (30,), schedule="C-II")
_MEDICINES = (
    _METFORMIN,
    _LISINOPRIL,
    _METHYLPHENIDATE,
    _ATORVASTATIN,
    _Medicine("levothyroxine 50 mcg tablets", (90,)),
    _Medicine("amlodipine 5 mg tablets", (30, 90)),
    _Medicine("sertraline 50 mg tablets", (30,)),
    _Medicine("albuterol 90 mcg inhaler", (25, 50)),
    _Medicine("omeprazole 20 mg capsules", (30, 90)),
    _Medicine("insulin glargine pens", (28, 84), refrigerated=True),
    _Medicine("semaglutide pens", (28,), refrigerated=True),
    _Medicine("adalimumab pens", (28,), refrigerated=True),
    _Medicine("alprazolam 0.5 mg tablets", (30,), schedule="C-IV"),
    _Medicine("pregabalin 75 mg capsules", (30,), schedule="C-V"),
)
_REFRIGERATED = frozenset(one.name for one in _MEDICINES if one.refrigerated)
TRACKING_URL = "https://track.example.com/"
_PLACES = ("Columbus, OH", "Memphis, TN", "Louisville, KY", "Reno, NV", "Allentown, PA", "Tulsa, OK")
_OPEN: tuple[OrderStatus, ...] = ("processing", "shipped", "out_for_delivery", "delayed")

_SCHEMA = """
CREATE TABLE prescribers (npi TEXT PRIMARY KEY, dea_number TEXT, electronic_requests INTEGER,
    usual_reply_days INTEGER);
CREATE TABLE prescriptions (prescription_id TEXT PRIMARY KEY, customer_id TEXT, medicine TEXT, schedule TEXT,
    refill_status TEXT, refills_left INTEGER, days_supply INTEGER, last_fill_date TEXT, next_fill_date TEXT,
    automatic_refill INTEGER, prescriber_npi TEXT, store TEXT);
CREATE TABLE orders (order_id TEXT PRIMARY KEY, customer_id TEXT, status TEXT, placed_on TEXT,
    promised_on TEXT, method TEXT, refrigerated INTEGER, signature_required INTEGER);
CREATE TABLE deliveries (order_id TEXT PRIMARY KEY, customer_id TEXT, status TEXT, carrier TEXT,
    tracking_number TEXT, tracking_url TEXT, last_scan TEXT, last_scan_at TEXT, promised_on TEXT,
    delivered_at TEXT);
CREATE TABLE order_lines (order_id TEXT, prescription_id TEXT, medicine TEXT, days_supply INTEGER);
CREATE INDEX prescriptions_of ON prescriptions (customer_id);
CREATE INDEX orders_of ON orders (customer_id);
CREATE INDEX lines_of ON order_lines (order_id);
"""


@dataclass(frozen=True, slots=True)
class OrderDatabase:
    """Reads the database. A read takes well under a millisecond, so callers on an event loop may wait."""

    connection: sqlite3.Connection

    def prescriptions(self, *, column: str, value: str) -> list[Prescription]:
        return [Prescription.model_validate(row) for row in self._rows("prescriptions", column, value)]

    def orders(self, *, column: str, value: str) -> list[Order]:
        """Return orders with their lines, the newest first."""
        rows = sorted(self._rows("orders", column, value), key=lambda row: row["placed_on"], reverse=True)
        return [Order.model_validate({**row, "lines": self._lines(row["order_id"])}) for row in rows]

    def deliveries(self, *, column: str, value: str) -> list[Delivery]:
        return [Delivery.model_validate(row) for row in self._rows("deliveries", column, value)]

    def prescribers(self, *, column: str, value: str) -> list[Prescriber]:
        return [Prescriber.model_validate(row) for row in self._rows("prescribers", column, value)]

    def customers(self) -> list[str]:
        found = self.connection.execute("SELECT DISTINCT customer_id FROM prescriptions ORDER BY customer_id")
        return [row["customer_id"] for row in found]

    def _lines(self, order_id: str) -> list[dict[str, Any]]:
        names = OrderLine.model_fields
        return [
            {name: row[name] for name in names} for row in self._rows("order_lines", "order_id", order_id)
        ]

    def _rows(self, table: str, column: str, value: str) -> list[dict[str, Any]]:
        # table and column are names of this module's callers, never of a request
        found = self.connection.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY 1", (value,))  # noqa: S608
        return [dict(row) for row in found]


def make_database(path: Path | str, *, today: date) -> OrderDatabase:
    """Make the database anew and open it; ``:memory:`` keeps it in memory. The same day, the same rows."""
    if str(path) != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.executescript(_SCHEMA)
    _Maker(connection, today, random.Random(_SEED)).make()  # noqa: S311 - sample data, not a secret
    connection.commit()
    return OrderDatabase(connection)


@dataclass(slots=True)
class _Maker:
    connection: sqlite3.Connection
    today: date
    draw: random.Random

    def make(self) -> None:
        prescribers = [self._prescriber() for _ in range(_PRESCRIBERS)]
        npis = [one.npi for one in prescribers]
        self._insert("prescribers", prescribers)
        self._declared_customer(npis[0])
        for number in self.draw.sample(range(300_000, 999_999), CUSTOMERS - 1):
            self._customer(f"PT-{number}", npis)

    def _declared_customer(self, npi: str) -> None:
        """Add the demo's customer: one order is late, a refill is too soon, one waits for the prescriber."""
        by_mail = self._filled(DEMO_PRESCRIPTION, DEMO_CUSTOMER, _METFORMIN, days=90, npi=npi)
        late = self._order(DEMO_ORDER, DEMO_CUSTOMER, [by_mail], placed=_add_business_days(self.today, -9))
        sooner = self._filled("7301843-04417", DEMO_CUSTOMER, _LISINOPRIL, days=30, npi=npi)
        waiting = self._filled("7301844-04417", DEMO_CUSTOMER, _ATORVASTATIN, days=30, npi=npi)
        controlled = self._filled("7301845-04417", DEMO_CUSTOMER, _METHYLPHENIDATE, days=30, npi=npi)
        self._ship(late, "delayed", [by_mail.model_copy(update={"refills_left": 3})])
        self._add(sooner, ago=10, left=2)
        self._add(waiting, ago=28, left=0, status="waiting_for_prescriber")
        self._add(controlled, ago=12, left=0)

    def _customer(self, customer: str, npis: Sequence[str]) -> None:
        store = f"{self.draw.randrange(100, 9_999):05d}"
        free: list[Prescription] = []
        for medicine in self.draw.sample(_MEDICINES, self.draw.randint(2, 5)):
            number = f"{self.draw.randrange(1_000_000, 7_300_000)}-{store}"
            days = self.draw.choice(medicine.days_supply)
            free.append(self._filled(number, customer, medicine, days=days, npi=self.draw.choice(npis)))
        for _ in range(self.draw.randint(0, 2)):
            shipped = [free.pop() for _ in range(min(len(free) - 1, self.draw.randint(1, 2)))]
            if shipped:
                self._drawn_order(customer, shipped)
        for one in free:
            left = 0 if one.schedule == "C-II" else self.draw.randint(0, 5)
            self._add(one, ago=self.draw.randint(0, one.days_supply + 5), left=left)

    def _drawn_order(self, customer: str, shipped: Sequence[Prescription]) -> None:
        number = f"{self.draw.randrange(5_000, 9_999)}-{self.draw.randrange(10_000):04d}"
        placed = self.today - timedelta(days=self.draw.randint(0, 20))
        order = self._order(number, customer, shipped, placed=placed)
        self._ship(order, self._status(order), shipped)

    def _prescriber(self) -> Prescriber:
        return Prescriber(
            npi=_until(lambda: f"1{self.draw.randrange(10**9):09d}", is_npi),
            dea_number=_until(lambda: f"BX{self.draw.randrange(10**7):07d}", is_dea_number)
            if self.draw.random() < 0.8
            else None,
            electronic_requests=self.draw.random() < 0.7,
            usual_reply_days=self.draw.randint(1, 4),
        )

    def _filled(
        self, number: str, customer: str, medicine: _Medicine, *, days: int, npi: str
    ) -> Prescription:
        """Return a prescription that was filled today; the callers set when, and with what status."""
        return Prescription(
            prescription_id=number,
            customer_id=customer,
            medicine=medicine.name,
            schedule=medicine.schedule,
            refill_status="refillable",
            refills_left=0,
            days_supply=days,
            last_fill_date=self.today,
            next_fill_date=None,
            automatic_refill=not medicine.schedule and self.draw.random() < 0.4,
            prescriber_npi=npi,
            store=number.rpartition("-")[2],
        )

    def _add(self, filled: Prescription, *, ago: int, left: int, status: RefillStatus | None = None) -> None:
        """Insert a prescription that was filled ``ago`` days ago, with ``left`` refills."""
        last = self.today - timedelta(days=ago)
        next_fill = _next_fill(filled, last) if left else None
        drawn = self.draw.choice(
            ("refillable", "refillable", "in_process", "ready", "out_of_stock", "on_hold")
        )
        if next_fill is None:
            asks = filled.schedule != "C-II" and self.draw.random() < 0.3
            drawn = "waiting_for_prescriber" if asks else "no_refills"
        elif next_fill > self.today:
            drawn = "too_soon"
        changes = {"refills_left": left, "last_fill_date": last, "next_fill_date": next_fill}
        self._insert(
            "prescriptions", [filled.model_copy(update=changes | {"refill_status": status or drawn})]
        )

    def _order(self, number: str, customer: str, shipped: Sequence[Prescription], *, placed: date) -> Order:
        refrigerated = any(one.medicine in _REFRIGERATED for one in shipped)
        method: Method = "expedited" if refrigerated or self.draw.random() < 0.2 else "standard"
        if number == DEMO_ORDER:
            method = "standard"
        return Order(
            order_id=number,
            customer_id=customer,
            status="processing",
            placed_on=placed,
            promised_on=_add_business_days(placed, 1 + (5 if method == "standard" else 2)),
            method=method,
            refrigerated=refrigerated,
            signature_required=any(one.schedule for one in shipped),
            lines=[
                OrderLine(
                    prescription_id=one.prescription_id, medicine=one.medicine, days_supply=one.days_supply
                )
                for one in shipped
            ],
        )

    def _status(self, order: Order) -> OrderStatus:
        if self.draw.random() < 0.04:
            return "cancelled"
        if self.today <= _add_business_days(order.placed_on, 1):
            return "processing"
        if self.today < order.promised_on:
            return "shipped"
        if self.today == order.promised_on:
            return "out_for_delivery"
        return "delayed" if self.draw.random() < 0.2 else "delivered"

    def _ship(self, order: Order, status: OrderStatus, shipped: Sequence[Prescription]) -> None:
        """Insert an order in its state, its delivery and its prescriptions."""
        order = order.model_copy(update={"status": status})
        self._insert("orders", [order], without=("lines",))
        self._insert("order_lines", order.lines, order_id=order.order_id)
        self._insert("deliveries", [self._delivery(order)])
        for one in shipped:
            left = 0 if one.schedule == "C-II" else one.refills_left or self.draw.randint(0, 5)
            refill: RefillStatus = "in_process" if status == "processing" else "shipped"
            ago = (self.today - order.placed_on).days
            self._add(one, ago=ago, left=left, status=refill if status in _OPEN else None)

    def _delivery(self, order: Order) -> Delivery:
        fields: dict[str, Any] = dict.fromkeys(Delivery.model_fields) | order.model_dump(
            include={"order_id", "customer_id", "status", "promised_on"}
        )
        place = self.draw.choice(_PLACES)
        if order.status not in ("processing", "cancelled"):
            carriers = ("UPS", "FedEx") if order.refrigerated else ("USPS", "UPS", "FedEx")
            carrier = self.draw.choice(carriers)
            number = self._tracking(carrier)
            url = f"{TRACKING_URL}{carrier.lower()}/{number}"
            fields |= {"carrier": carrier, "tracking_number": number, "tracking_url": url}
        match order.status:
            case "shipped":
                scan, day = f"Departed sorting center, {place}", self.today - timedelta(days=1)
            case "out_for_delivery":
                scan, day = "Out for delivery", self.today
            case "delayed":
                scan, day = f"Arrived at sorting center, {place}", order.promised_on - timedelta(days=1)
            case "delivered":
                scan, day = "Delivered, left at front door", order.promised_on
            case _:
                return Delivery.model_validate(fields)
        at = datetime.combine(day, time(hour=0, minute=self.draw.randint(1, 59)), tzinfo=UTC)
        fields |= {"last_scan": scan, "last_scan_at": at}
        return Delivery.model_validate(fields | {"delivered_at": at if order.status == "delivered" else None})

    def _tracking(self, carrier: str) -> str:
        """Return a number of the carrier's form."""
        match carrier:
            case "UPS":
                return f"1Z999AA1{self.draw.randrange(10**10):010d}"
            case "FedEx":
                return f"{self.draw.randrange(10**12):012d}"
            case _:
                return f"9400{self.draw.randrange(10**18):018d}"

    def _insert(
        self, table: str, rows: Iterable[BaseModel], *, without: tuple[str, ...] = (), **more: str
    ) -> None:
        for row in rows:
            values = {**more, **row.model_dump(mode="json", exclude=set(without))}
            names, marks = ", ".join(values), ", ".join("?" * len(values))
            self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*values.values()])  # noqa: S608


def _next_fill(filled: Prescription, last: date) -> date:
    """Return the first day that the plan pays for.

    Of a controlled medicine 90 % of the supply must be used, of 84 days or more 70 %, of all others 75 %.
    """
    share = 0.9 if filled.schedule else 0.7 if filled.days_supply >= 84 else 0.75
    return last + timedelta(days=math.ceil(share * filled.days_supply))


def _add_business_days(day: date, days: int) -> date:
    """Return the day that is ``days`` business days later, or earlier if negative. Holidays count."""
    step = timedelta(days=1 if days > 0 else -1)
    for _ in range(abs(days)):
        day += step
        while day.weekday() >= 5:
            day += step
    return day


def _until(make: Callable[[], str], is_right: Callable[[str], bool]) -> str:
    while not is_right(made := make()):
        pass
    return made
