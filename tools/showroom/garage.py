"""The cars that the showroom sells: makes with their faces, models with their bodies, facelifts, colours.

The names are real, so that sellers' spellings can be resolved; the drawings resemble no make's car and wear no make's
badge. In: nothing. Out: `MODELS`, `PAINTS`. It draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tools.showroom.shapes import Body
from tools.showroom.surface import Colour, Face


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Sell one generation of one model; make, model and generation are spelt as in the shipped taxonomy."""

    make: str
    model: str
    generation: str
    years: tuple[int, int]
    style: str  # as sellers call the body
    body: Body
    face: Face
    price: int  # of a three years old one
    share: int = 2  # how often it is advertised, against the others
    spellings: tuple[str, ...] = ()  # what sellers write for make and model, beside the names

    @property
    def name(self) -> str:
        """Return make and model: "Volvo XC90 SUV"."""
        return f"{self.make} {self.model}"


# fmt: off
# Tables of numbers: one column below the other would hide which car they make.
_HATCH = Body()
_SEDAN = Body(
    nose=2.28, tail=-2.30, height=1.45, belt=0.93, hood=0.72, deck=0.95, screen=1.02, screen_angle=32, hatch=-1.72,
    hatch_angle=34, glass_end=-1.35, axles=(1.38, -1.36), doors=(0.84, -0.24, -1.05), pillars=(-0.26,), arch=0.05,
)
_ESTATE = replace(_SEDAN, hatch=-2.28, hatch_angle=58, glass_end=-2.02, pillars=(-0.26, -1.10), arch=0.02, deck=0.9)
_SUV = Body(
    nose=2.26, tail=-2.22, half_width=0.93, height=1.74, belt=1.10, hood=0.92, deck=1.05, screen=0.92,
    screen_angle=40, hatch=-2.16, hatch_angle=68, glass_end=-1.90, axles=(1.36, -1.38), wheel=0.37, sill=0.27,
    tumble=0.28, arch=0.025, pillars=(-0.30, -1.15), doors=(0.78, -0.28, -1.10), cladding=0.10, flare=0.045,
    round=0.10,
)
_VAN = Body(
    nose=2.40, tail=-2.46, half_width=0.96, height=2.15, belt=1.22, hood=1.00, deck=1.15, screen=1.62,
    screen_angle=46, hatch=-2.42, hatch_angle=86, glass_end=-2.2, axles=(1.62, -1.42), wheel=0.35, sill=0.24,
    tumble=0.10, arch=0.008, pillars=(0.55, -0.80), doors=(1.30, 0.58, -0.80), round=0.07, corner=0.16, bow=0.18,
    flare=0.02,
)
_PICKUP = Body(
    nose=2.75, tail=-2.80, half_width=0.97, height=1.78, belt=1.12, hood=0.98, deck=1.10, screen=1.02,
    screen_angle=38, hatch=-0.42, hatch_angle=84, glass_end=-0.34, axles=(1.78, -1.72), wheel=0.40, sill=0.34,
    tumble=0.28, arch=0.02, pillars=(), doors=(0.92, -0.34), cladding=0.0, flare=0.05, round=0.08, corner=0.14,
    bow=0.14, bed=True,
)
_COUPE = replace(
    _SEDAN, nose=2.26, tail=-2.20, height=1.36, belt=0.92, hood=0.68, screen=0.80, screen_angle=28, hatch=-1.86,
    hatch_angle=26, glass_end=-1.22, doors=(0.66, -0.72), pillars=(-0.74,), arch=0.075, round=0.18, half_width=0.91,
)

_VW = Face(
    grille="slats", grille_half=0.44, grille_height=0.09, badge="disc", bulbs=(0.53, 0.67), tail="wide", spokes=5
)
_AUDI = Face(
    grille="bars", grille_half=0.34, grille_height=0.30, grille_below=0.06, grille_taper=0.35, grille_power=8,
    badge="bar", lamp=(0.44, 0.82), lamp_height=0.10, lamp_slant=-0.18, strip=True, bulbs=(0.62,), tail="bar",
    tail_size=0.4, spokes=7, spoke_width=0.72,
)
_BMW = Face(
    grille="split", grille_half=0.24, grille_height=0.17, grille_power=3, badge="none", lamp=(0.36, 0.80),
    lamp_height=0.14, bulbs=(0.48, 0.66), lamp_power=3, tail="wide", tail_size=0.28, tail_height=0.11, spokes=10,
    spoke_width=0.6, fog=True,
)
_MERCEDES = Face(
    grille="blade", grille_half=0.40, grille_height=0.22, grille_power=3.5, grille_below=0.05, badge="diamond",
    lamp=(0.46, 0.80), lamp_height=0.20, lamp_slant=0.02, lamp_power=2.2, bulbs=(0.62,), tail="wide", tail_size=0.34,
    tail_height=0.20, spokes=6, spoke_width=0.66,
)
_FORD = Face(
    grille="mesh", grille_half=0.52, grille_height=0.17, grille_below=0.05, grille_power=2.6, grille_taper=-0.2,
    badge="bar", lamp=(0.54, 0.86), lamp_height=0.15, lamp_slant=-0.30, bulbs=(0.66,), tail="tall", tail_size=0.12,
    spokes=8, spoke_width=0.7, chrome=False,
)
_TOYOTA = Face(
    grille="slats", grille_half=0.30, grille_height=0.16, grille_taper=0.6, badge="diamond", lamp=(0.36, 0.84),
    lamp_height=0.12, lamp_slant=-0.22, lamp_power=2.5, bulbs=(0.50, 0.66), tail="wide", tail_size=0.16,
    tail_height=0.16, spokes=9, spoke_width=0.55,
)
_VOLVO = Face(
    grille="bars", grille_half=0.30, grille_height=0.20, grille_power=9, badge="bar", lamp=(0.38, 0.80),
    lamp_height=0.16, lamp_slant=0.0, lamp_power=9, bulbs=(0.50, 0.68), tail="tall", tail_size=0.30, spokes=5,
    spoke_width=0.5,
)
_HONDA = Face(
    grille="blade", grille_half=0.36, grille_height=0.12, badge="none", lamp=(0.42, 0.84), lamp_height=0.11,
    lamp_slant=-0.10, strip=True, bulbs=(0.54, 0.66), tail="bar", tail_size=0.26, tail_height=0.15, spokes=3,
    spoke_width=0.86, chrome=True,
)
_NISSAN = Face(
    grille="mesh", grille_half=0.30, grille_height=0.24, grille_taper=0.9, badge="disc", lamp=(0.50, 0.78),
    lamp_height=0.22, lamp_slant=0.35, lamp_power=2.0, bulbs=(0.64,), tail="round", tail_height=0.16, spokes=4,
    spoke_width=0.74, dark_rim=True, chrome=False,
)

MODELS: tuple[Model, ...] = (
    Model(
        make="Volkswagen", model="Golf Hatchback", generation="2008-2013", years=(2008, 2013), style="hatchback",
        body=_HATCH, face=_VW, price=12900, share=4, spellings=("VW Golf", "vw golf 1.6 tdi", "Volkswagen GOLF",
        "Фольксваген Гольф"),
    ),
    Model(
        make="Volkswagen", model="Golf Hatchback", generation="1983-1992", years=(1983, 1992), style="hatchback",
        body=replace(_HATCH, nose=1.95, tail=-1.95, half_width=0.83, height=1.42, round=0.05, corner=0.10, bow=0.10,
        hood=0.80, screen=0.86, hatch=-1.86, screen_angle=40, wheel=0.29, axles=(1.20, -1.24), tumble=0.26,),
        face=replace(_VW, grille_half=0.62, grille_height=0.15, lamp=(0.44, 0.64), lamp_height=0.17, lamp_power=2,
        lamp_slant=0, bulbs=(0.54,), chrome=False, tail_height=0.2, spokes=12, fog=False,), price=2900, share=1,
        spellings=("VW Golf 2", "vw golf mk2"),
    ),
    Model(
        make="Volkswagen", model="Beetle Hatchback", generation="2011-2019", years=(2011, 2019), style="hatchback",
        body=replace(_HATCH, nose=2.06, tail=-2.02, half_width=0.89, height=1.52, round=0.34, corner=0.42, bow=0.50,
        arch=0.22, screen=0.86, screen_angle=40, hatch=-1.80, hatch_angle=36, glass_end=-1.10, hood=0.70, deck=0.74,
        flare=0.09, doors=(0.66, -0.66), pillars=(-0.66,), wheel=0.34,), face=replace(_VW, grille="none", lamp=(0.46,
        0.72), lamp_height=0.25, lamp_power=2, lamp_slant=0, lamp_below=0.02, bulbs=(0.59,), tail="round",
        tail_height=0.22,), price=14500, spellings=("VW Beetle", "vw new beetle", "Фольксваген Beetle"),
    ),
    Model(
        make="Audi", model="A5 Coupe", generation="2007-2017", years=(2007, 2017), style="coupe", body=_COUPE,
        face=_AUDI, price=21900, share=3, spellings=("AUDI A5", "audi a5 2.0 tfsi quattro", "Ауди А5"),
    ),
    Model(
        make="Audi", model="100 Wagon", generation="1990-1994", years=(1990, 1994), style="estate",
        body=replace(_ESTATE, round=0.07, corner=0.14, bow=0.16, half_width=0.87, tumble=0.30, hatch_angle=48,
        wheel=0.31), face=replace(_AUDI, grille_height=0.14, grille_taper=0.2, strip=False, lamp_height=0.15,
        lamp_slant=0, lamp=(0.42, 0.80), bulbs=(0.54, 0.70), spokes=14, tail_size=0.55,), price=2400, share=1,
        spellings=("Audi 100 Avant", "audi 100 kombi"),
    ),
    Model(
        make="BMW", model="3 Series Sedan", generation="2011-2019", years=(2011, 2019), style="sedan",
        body=replace(_SEDAN, nose=2.30, hood=0.70, screen=0.92, axles=(1.46, -1.36), hatch=-1.76), face=_BMW,
        price=18900, share=4, spellings=("BMW 320d", "bmw 3er limousine", "Bmw 3-series", "БМВ 3 серия"),
    ),
    Model(
        make="BMW", model="X5 SUV", generation="2006-2013", years=(2006, 2013), style="suv", body=replace(_SUV,
        nose=2.40, tail=-2.36, half_width=0.96, rails=True, hatch=-2.28, round=0.13, cladding=0.0), face=replace(_BMW,
        grille_height=0.22, lamp_height=0.18, grille_half=0.28), price=29900, share=3, spellings=("BMW X5",
        "bmw x5 3.0d xdrive", "БМВ Х5"),
    ),
    Model(
        make="Mercedes-Benz", model="E-Class Sedan", generation="2009-2016", years=(2009, 2016), style="sedan",
        body=replace(_SEDAN, nose=2.42, tail=-2.44, height=1.49, half_width=0.91, hood=0.78, corner=0.28, round=0.18,
        arch=0.065, hatch=-1.86, deck=0.90,), face=_MERCEDES, price=23900, share=4, spellings=("Mercedes E220 CDI",
        "mercedes e220 cdi", "MB E-Klasse", "Mercedes-Benz E 200", "Мерседес E-класс"),
    ),
    Model(
        make="Mercedes-Benz", model="Sprinter Van", generation="2006-2018", years=(2006, 2018), style="van",
        body=replace(_VAN, height=2.45, nose=2.62, tail=-2.72, blind=0.50, axles=(1.80, -1.62), screen=1.72),
        face=replace(_MERCEDES, grille_height=0.28, lamp_height=0.30, lamp_power=4, tail="tall", tail_size=0.5,
        spokes=0), price=19900, spellings=("Mercedes Sprinter", "MERCEDES-BENZ SPRINTER 316 CDI",
        "Мерседес Спринтер"),
    ),
    Model(
        make="Ford", model="Focus Sedan", generation="2000-2007", years=(2000, 2007), style="sedan",
        body=replace(_SEDAN, nose=2.10, tail=-2.12, height=1.50, belt=0.97, hood=0.76, screen=1.10, screen_angle=30,
        hatch=-1.62, hatch_angle=42, corner=0.30, axles=(1.28, -1.30), glass_end=-1.22,), face=_FORD, price=4900,
        share=3, spellings=("Ford Focus", "ford focus 1.8 tdci", "Форд Фокус"),
    ),
    Model(
        make="Ford", model="F-150 Regular Cab", generation="2009-2014", years=(2009, 2014), style="pickup",
        body=_PICKUP, face=replace(_FORD, grille="slats", grille_half=0.56, grille_height=0.32, grille_power=8,
        lamp=(0.60, 0.92), lamp_height=0.32, lamp_slant=0, chrome=True, tail_size=0.14,), price=24900, share=2,
        spellings=("Ford F150", "ford f-150 xlt", "Форд F-150"),
    ),
    Model(
        make="Ford", model="Edge SUV", generation="2007-2014", years=(2007, 2014), style="suv", body=replace(_SUV,
        height=1.68, belt=1.08, hood=0.86, screen=1.02, screen_angle=34, hatch_angle=56, hatch=-2.14, round=0.16,
        corner=0.28,), face=replace(_FORD, grille="slats", grille_half=0.50, grille_height=0.26, chrome=True,
        grille_power=5, tail="wide", tail_size=0.3,), price=15900, spellings=("FORD EDGE", "ford edge 3.5 v6"),
    ),
    Model(
        make="Toyota", model="Camry Sedan", generation="2011-2017", years=(2011, 2017), style="sedan",
        body=replace(_SEDAN, nose=2.36, tail=-2.42, height=1.47, deck=1.0, hatch=-1.70, hatch_angle=30, belt=0.96,
        hood=0.76), face=_TOYOTA, price=17900, share=4, spellings=("TOYOTA CAMRY", "toyota camry hybrid",
        "Тойота Камри"),
    ),
    Model(
        make="Toyota", model="4Runner SUV", generation="2009-2024", years=(2009, 2024), style="suv",
        body=replace(_SUV, nose=2.38, tail=-2.40, height=1.84, belt=1.18, hood=1.04, screen=0.80, screen_angle=48,
        round=0.06, corner=0.12, bow=0.12, wheel=0.41, sill=0.34, rails=True, flare=0.07, hatch_angle=78, hatch=-2.34,
        cladding=0.08,), face=replace(_TOYOTA, grille_half=0.34, grille_height=0.26, grille_taper=0, lamp_height=0.22,
        tail="tall", tail_size=0.1, spokes=6, spoke_width=0.8, dark_rim=True,), price=32900,
        spellings=("Toyota 4 Runner", "toyota 4runner sr5"),
    ),
    Model(
        make="Volvo", model="C30 Hatchback", generation="2006-2013", years=(2006, 2013), style="hatchback",
        body=replace(_HATCH, nose=2.14, tail=-2.08, height=1.44, belt=0.98, hatch=-2.00, hatch_angle=46,
        glass_end=-1.62, doors=(0.70, -0.68), pillars=(-0.68,), round=0.16, hood=0.72,), face=replace(_VOLVO,
        grille_height=0.16, lamp_power=3, lamp_slant=-0.2, tail_size=0.34), price=10900, spellings=("volvo c30",
        "VOLVO C30 1.6D"),
    ),
    Model(
        make="Volvo", model="240 Sedan", generation="1974-1993", years=(1974, 1993), style="sedan",
        body=replace(_SEDAN, nose=2.38, tail=-2.42, half_width=0.85, height=1.44, belt=0.92, hood=0.82, deck=0.93,
        round=0.04, corner=0.07, bow=0.05, screen=0.82, screen_angle=44, hatch=-1.52, hatch_angle=48, tumble=0.24,
        arch=0.02, flare=0.01, wheel=0.31, glass_end=-1.32,), face=replace(_VOLVO, grille_half=0.34,
        grille_height=0.17, lamp=(0.40, 0.74), lamp_height=0.17, tail="wide", tail_size=0.3, tail_height=0.2,
        spokes=16, fog=False,), price=3900, spellings=("Volvo 240 GL", "volvo 240"),
    ),
    Model(
        make="Volvo", model="XC90 SUV", generation="2002-2014", years=(2002, 2014), style="suv", body=replace(_SUV,
        nose=2.38, tail=-2.38, height=1.80, rails=True, hatch=-2.34, hatch_angle=74, glass_end=-2.16, cladding=0.14,),
        face=_VOLVO, price=16900, share=3, spellings=("VOLVO XC 90", "volvo xc90 d5 awd", "Вольво ХС90"),
    ),
    Model(
        make="Honda", model="Accord Coupe", generation="2008-2012", years=(2008, 2012), style="coupe",
        body=replace(_COUPE, nose=2.36, tail=-2.40, height=1.42, belt=0.96, hood=0.76, screen=0.98, hatch=-1.74,
        hatch_angle=30, deck=0.98, arch=0.055,), face=_HONDA, price=11900, share=2, spellings=("HONDA ACCORD",
        "honda accord coupé v6", "Хонда Аккорд купе"),
    ),
    Model(
        make="Honda", model="Odyssey Minivan", generation="2011-2017", years=(2011, 2017), style="minivan",
        body=replace(_VAN, nose=2.44, tail=-2.50, half_width=0.95, height=1.76, belt=1.05, hood=0.84, screen=1.52,
        screen_angle=33, hatch_angle=70, hatch=-2.42, sill=0.20, wheel=0.34, round=0.14, corner=0.26, bow=0.26,
        tumble=0.26, rails=True,), face=replace(_HONDA, tail="tall", tail_size=0.2, spokes=5), price=17900,
        spellings=("honda odyssey", "Honda Odyssey EX-L", "Хонда Одиссей"),
    ),
    Model(
        make="Nissan", model="Juke Hatchback", generation="2010-2019", years=(2010, 2019), style="hatchback",
        body=replace(_HATCH, nose=2.06, tail=-2.00, half_width=0.89, height=1.58, belt=1.06, hood=0.88, screen=0.92,
        screen_angle=35, hatch=-1.96, hatch_angle=48, round=0.20, corner=0.34, bow=0.36, arch=0.09, flare=0.10,
        wheel=0.36, sill=0.25, cladding=0.12, glass_end=-1.30,), face=_NISSAN, price=11900, share=3,
        spellings=("Nissan JUKE", "nissan juke dig-t", "Ниссан Жук"),
    ),
    Model(
        make="Nissan", model="NV Passenger Van", generation="2011-2021", years=(2011, 2021), style="van",
        body=replace(_VAN, nose=2.86, tail=-2.70, screen=1.22, screen_angle=44, hood=1.10, belt=1.24, axles=(1.96,
        -1.66), doors=(1.02, 0.16, -1.10), pillars=(0.14, -1.05), round=0.05, corner=0.10, wheel=0.38,),
        face=replace(_NISSAN, grille_height=0.30, grille_half=0.42, grille_taper=0.4, chrome=True, lamp=(0.52, 0.88),
        lamp_height=0.26, lamp_power=7, lamp_slant=0, tail="tall", tail_size=0.5, dark_rim=False, spokes=8,),
        price=18900, share=1, spellings=("Nissan NV 3500", "nissan nv passenger"),
    ),
)

PAINTS: Mapping[str, Colour] = {
    "white": (0.72, 0.73, 0.74),
    "black": (0.008, 0.008, 0.009),
    "silver": (0.42, 0.43, 0.45),
    "grey": (0.10, 0.105, 0.115),
    "red": (0.36, 0.010, 0.014),
    "blue": (0.014, 0.06, 0.26),
    "dark green": (0.008, 0.055, 0.028),
    "beige": (0.42, 0.34, 0.22),
    "orange": (0.55, 0.13, 0.008),
    "petrol": (0.01, 0.13, 0.16),
    "yellow": (0.62, 0.40, 0.02),
    "brown": (0.06, 0.026, 0.014),
}
"""Colours by name, as linear light."""
