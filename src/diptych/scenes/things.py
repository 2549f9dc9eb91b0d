"""How each thing looks: from what stands where to parts on the sheet."""

from itertools import pairwise
from math import cos, pi, sin
from random import Random

from diptych.scenes.drawing import BUILDING, CAR, GROUND, NEAR, PAVEMENT, PERSON, ROAD, SKY, TREE, Drawing
from diptych.scenes.layout import LAMP_HEIGHT, Car, Colour, House, Lamp, Person, Point, Thing, Tree, mix, scale

# fmt: off
PAVINGS: tuple[Colour, ...] = ((0.62, 0.60, 0.57), (0.54, 0.54, 0.56), (0.66, 0.55, 0.47), (0.70, 0.68, 0.62))
WALLS: tuple[Colour, ...] = (
    (0.62, 0.30, 0.23), (0.76, 0.44, 0.30), (0.88, 0.72, 0.38), (0.88, 0.82, 0.70), (0.66, 0.66, 0.64),
    (0.93, 0.91, 0.87), (0.50, 0.42, 0.36), (0.50, 0.60, 0.70), (0.82, 0.58, 0.54), (0.60, 0.71, 0.58),
)
ROOFS: tuple[Colour, ...] = ((0.60, 0.28, 0.19), (0.36, 0.32, 0.31), (0.30, 0.33, 0.38), (0.48, 0.35, 0.28))
PAINTS: tuple[Colour, ...] = (
    (0.85, 0.86, 0.87), (0.62, 0.64, 0.66), (0.12, 0.12, 0.14), (0.76, 0.10, 0.10), (0.12, 0.24, 0.60),
    (0.94, 0.94, 0.92), (0.13, 0.38, 0.26), (0.94, 0.72, 0.12), (0.30, 0.32, 0.35), (0.36, 0.62, 0.80),
)
SKINS: tuple[Colour, ...] = ((0.90, 0.72, 0.60), (0.76, 0.56, 0.42), (0.50, 0.34, 0.25), (0.34, 0.23, 0.18))
WINDOWS = ((0.4, 0.5), (0.5, 0.55), (0.35, 0.62), (0.96, 0.5), (0.85, 0.85))  # shares of a bay and of a storey
# Length, height and half width in metres, and the roof line, back to front, in shares of length and height.
CARS: tuple[tuple[float, float, float, tuple[tuple[float, float], ...]], ...] = (
    (4.5, 1.42, 0.90, ((0.0, 0.62), (0.14, 0.67), (0.27, 0.97), (0.36, 1.0), (0.58, 1.0), (0.74, 0.67), (1.0, 0.56))),
    (3.9, 1.50, 0.86, ((0.0, 0.62), (0.02, 0.66), (0.12, 0.97), (0.20, 1.0), (0.54, 1.0), (0.72, 0.66), (1.0, 0.55))),
    (4.4, 1.72, 0.94, ((0.0, 0.60), (0.01, 0.64), (0.08, 0.97), (0.14, 1.0), (0.58, 1.0), (0.72, 0.64), (1.0, 0.58))),
    (5.3, 2.25, 1.00, ((0.0, 0.52), (0.01, 0.56), (0.03, 0.97), (0.06, 1.0), (0.76, 1.0), (0.90, 0.56), (1.0, 0.48))),
)
# fmt: on


def draw_far_away(drawing: Drawing) -> None:
    """The sky (part 0), hills and roofs at the end of the view, the ground and the road."""
    street, rng, sunlit = drawing.street, drawing.rng, drawing.light.towards_sun[1]
    drawing.part(SKY, (0, 0, 0), (0, 0, 1e-3))
    for z in (900.0, 500.0, 300.0):
        hill = drawing.part(TREE, mix(rng.choice(street.leaves), street.grass, rng.random() * 0.6), (0, 0, 1 / z))
        phase, rise = rng.uniform(0, 6), drawing.focal * rng.uniform(0.005, 0.03 if street.town else 0.09)
        ridge = [(0.0, drawing.horizon)]
        for step in range(49):
            wave = 1 + 0.5 * sin(phase + step / 7) + 0.3 * sin(3 * phase + step / 3) + rng.uniform(0, 0.15)
            ridge.append((drawing.width * step / 48, drawing.horizon - rise * wave))
        drawing.pen.polygon([*ridge, (drawing.width, drawing.horizon)], fill=hill)
    for _ in range(rng.randint(8, 18) if street.town else 0):
        z, x, half, height = rng.uniform(200, 320), rng.uniform(-110, 110), rng.uniform(4, 10), rng.uniform(6, 36)
        windows = (5, 4, 0.6, 0.5, x, height, 0)
        drawing.board(drawing.part(BUILDING, rng.choice(WALLS), (0, 0, 1 / z), 0.4, 0, windows), x, z, 0, height, half)
    ground = drawing.part(PAVEMENT, rng.choice(PAVINGS) if street.town else street.grass, GROUND, sunlit)
    drawing.pen.rectangle((0, drawing.horizon, drawing.width, drawing.height), fill=ground)
    grey = rng.uniform(0.30, 0.48)
    road = drawing.part(ROAD, (grey, grey, grey + rng.uniform(-0.02, 0.03)), GROUND, sunlit)
    depths = [NEAR * 1.14**step for step in range(44)]
    left, right = street.middle - street.half_road, street.middle + street.half_road
    drawing.fill(road, *((left, 0.0, z) for z in depths), *((right, 0.0, z) for z in reversed(depths)))


def draw_thing(drawing: Drawing, thing: Thing) -> None:
    """Over all that was drawn before, and with its shadow on the ground."""
    match thing:
        case House():
            draw_house(drawing, thing)
        case Tree():
            draw_tree(drawing, thing)
        case Lamp():
            draw_lamp(drawing, thing)
        case Car():
            draw_car(drawing, thing)
        case Person():
            draw_person(drawing, thing)


def draw_house(drawing: Drawing, house: House) -> None:
    """A house beside the road: the gable that faces us, then the wall that faces the road, and the roof."""
    rng, (sx, _, sz), town = drawing.rng, drawing.light.towards_sun, drawing.street.town
    side, front, near, far = house.side, house.front, house.near, house.far
    storey, depth = rng.uniform(2.9, 3.5), rng.uniform(8, 12)
    eaves, middle, back = house.storeys * storey + 0.5, front + side * depth / 2, front + side * depth
    pitched = house.storeys < 4 and (not town or rng.random() < 0.7)
    ridge = eaves + (rng.uniform(2, 4) if pitched else 0)
    colour, (wide, tall) = jitter(rng, rng.choice(WALLS), 0.05), rng.choice(WINDOWS)
    drawing.shadow_of_box(middle, depth / 2, near, far, eaves)
    windows = (depth / 3, storey, min(wide, 0.5) * 0.8, tall, front, eaves, 0)
    gable = drawing.part(BUILDING, colour, (0, 0, 1 / near), -sz, 0, windows)
    outline = ((front, 0), (front, eaves), (middle, ridge), (back, eaves), (back, 0))
    drawing.fill(gable, *((x, y, near) for x, y in outline))
    x = front + drawing.street.bend * near * near
    if x * side < 1:  # a bend has turned the road side of the house away from us
        return
    plane, sunlit, shops = (1 / x, 0.0, 0.0), -side * sx, town and house.storeys > 1 and rng.random() < 0.5

    def strip(part: int, low: float, high: float) -> None:
        drawing.fill(part, (front, low, near), (front, high, near), (front, high, far), (front, low, far))

    bay = (far - near) / max(1, round((far - near) / rng.uniform(2.2, 3.8)))
    strip(drawing.part(BUILDING, colour, plane, sunlit, 0, (bay, storey, wide, tall, near, eaves, shops)), 0, eaves)
    strip(drawing.part(BUILDING, scale(colour, rng.uniform(0.7, 1.15)), plane, sunlit), eaves - 0.4, eaves)
    if shops:
        sign = drawing.part(BUILDING, rng.choice(PAINTS), plane, sunlit, 0.3 * drawing.light.lamps)
        strip(sign, storey - 0.5, storey)
    if pitched:
        tiles = drawing.part(BUILDING, jitter(rng, rng.choice(ROOFS), 0.04), plane, 0.5 + 0.4 * sunlit)
        drawing.fill(tiles, (front, eaves, near), (middle, ridge, near), (middle, ridge, far), (front, eaves, far))


def draw_lamp(drawing: Drawing, lamp: Lamp) -> None:
    """A street lamp: a thin post, an arm towards the road, and the light."""
    side, x, z = lamp.side, lamp.x, lamp.z
    post = drawing.part(BUILDING, (0.3, 0.32, 0.33), (0, 0, 1 / z))
    drawing.board(post, x, z, 0, LAMP_HEIGHT, 0.06)
    drawing.board(post, x - side * 0.55, z, LAMP_HEIGHT, LAMP_HEIGHT + 0.15, 0.6)
    bulb = drawing.part(BUILDING, (1.0, 0.80, 0.50), (0, 0, 1 / z), 0.5, 7 * drawing.light.lamps)
    drawing.board(bulb, x - side * 1.1, z, LAMP_HEIGHT - 0.1, LAMP_HEIGHT + 0.08, 0.3)


def draw_tree(drawing: Drawing, tree: Tree) -> None:
    """A trunk and a crown of many blobs, the paler ones towards the sun; a bush has no trunk."""
    rng, (sx, sy, _) = drawing.rng, drawing.light.towards_sun
    x, z, height, plane = tree.x, tree.z, tree.height, (0.0, 0.0, 1 / tree.z)
    girth = {"round": 0.36, "poplar": 0.16, "conifer": 0.26, "bush": 0.8}[tree.shape] * height
    foot = {"round": 0.3, "poplar": 0.15, "conifer": 0.1, "bush": 0.0}[tree.shape] * height
    middle, half, pointed = (foot + height) / 2, (height - foot) / 2, tree.shape == "conifer"
    leaf = jitter(rng, rng.choice(drawing.street.leaves), 0.05)
    tones = [drawing.part(TREE, scale(leaf, tone), plane, tone - 0.4) for tone in (0.55, 0.75, 0.95, 1.15)]
    bark = drawing.part(TREE, jitter(rng, (0.36, 0.28, 0.22), 0.05), plane)
    drawing.board(bark, x, z, 0, middle, 0.02 * height + 0.03)
    if pointed:
        drawing.fill(tones[0], (x - girth, foot, z), (x, height, z), (x + girth, foot, z))
    else:
        drawing.oval(tones[0], x, middle, z, girth * 0.85, half * 0.85)
    blobs = []
    for _ in range(int(min(max(70 * height / z, 3), 40))):
        angle, out = rng.uniform(0, 2 * pi), rng.random() ** 0.5
        dx, dy = out * cos(angle), out * sin(angle)
        blobs.append((dx * sx + dy * (0.4 + sy) + rng.gauss(0, 0.35), dx, dy))
    for tone, dx, dy in sorted(blobs):
        spread = girth * (0.55 - 0.45 * dy if pointed else 1)
        radius = min(spread, half) * rng.uniform(0.2, 0.42)
        level = 0 if tone < -0.6 else 1 if tone < 0 else 2 if tone < 0.6 else 3
        left, high = x + dx * spread, max(middle + dy * half * 0.9, radius * 0.5)
        drawing.oval(tones[level], left, high, z, radius, radius * 0.8)
        drawing.shadow_of_ball(left, high, z, radius * 1.2)


def draw_car(drawing: Drawing, car: Car) -> None:
    """A car: the side that we see, the roof and the panes from far to near, the near face."""
    rng, (sx, sy, sz), lamps = drawing.rng, drawing.light.towards_sun, drawing.light.lamps
    x, z, (length, height, half, line) = car.x, car.z, rng.choice(CARS)
    if car.towards_us:
        line = tuple((1 - along, up) for along, up in reversed(line))
    paint, plane, waist = jitter(rng, rng.choice(PAINTS), 0.04), (0.0, 0.0, 1 / (z + 0.5)), line[0][1] * height
    face, lid = drawing.part(CAR, paint, plane, -sz), drawing.part(CAR, paint, plane, sy)
    glass = drawing.part(CAR, (0.13, 0.16, 0.19), plane, 0.3, 0.25 * (1 - lamps))
    black, rim = drawing.part(CAR, (0.08, 0.08, 0.09), plane), drawing.part(CAR, (0.6, 0.6, 0.62), plane)
    drawing.shadow_of_box(x, half, z, z + length, height * 0.8)

    def corner(side: float, along: float, up: float) -> Point:
        return x + side * (half - 0.5 * max(0.0, up - 0.62)), up * height, z + along * length

    if abs(x) > half:
        side = -1 if x > 0 else 1
        flank = drawing.part(CAR, scale(paint, 0.9), plane, side * sx)
        drawing.fill(flank, *(corner(side, *place) for place in ((0.0, 0.2), *line, (1.0, 0.2))))
        cabin = [place for place in line if place[1] > 0.63]
        mid = sum(along for along, _ in cabin) / len(cabin)
        drawing.fill(glass, *(corner(side, mid + 0.84 * (along - mid), 0.2 + 0.75 * up) for along, up in cabin))
        for along in (0.18, 0.8):
            for part, radius in ((black, 0.34), (rim, 0.19)):
                turns = [step * pi / 6 for step in range(12)]
                rest = ((along + radius / length * cos(turn), (0.34 + radius * sin(turn)) / height) for turn in turns)
                drawing.fill(part, *(corner(side, *place) for place in rest))
    for side in (-1, 1):
        drawing.board(black, x + side * (half - 0.12), z + 0.3, 0, 0.5, 0.12)
    for (along, up), (further, higher) in reversed(list(pairwise(line))):
        run, rise = further - along, higher - up
        if rise < 0:
            continue  # it falls away from us
        for part, trim in ((face, 0.0), (glass, 0.12)) if rise > 0.15 else ((lid, 0.0),):
            ends = ((trim - 1, trim), (trim - 1, 1 - trim), (1 - trim, 1 - trim), (1 - trim, trim))
            drawing.fill(part, *(corner(side, along + share * run, up + share * rise) for side, share in ends))
    drawing.board(face, x, z, 0.2 * height, waist, half)
    drawing.board(black, x, z, 0.17 * height, 0.27 * height, half - 0.03)
    drawing.board(drawing.part(CAR, (0.85, 0.85, 0.8), plane, -sz, 0.3 * lamps), x, z, waist - 0.4, waist - 0.28, 0.26)
    if car.towards_us:
        drawing.board(black, x, z, waist - 0.22, waist - 0.06, 0.5)
    colour, glow = ((1.0, 0.95, 0.82), 9 * lamps + 0.3) if car.towards_us else ((0.85, 0.06, 0.04), 3 * lamps + 0.1)
    lamp = drawing.part(CAR, colour, plane, -sz, glow)
    for side in (-1, 1):
        drawing.board(lamp, x + side * (half - 0.17), z, waist - 0.24, waist - 0.07, 0.13)


def draw_person(drawing: Drawing, person: Person) -> None:
    """Someone walking: legs, arms, coat, head and hair."""
    rng, x, z = drawing.rng, person.x, person.z
    tall, stride, coat = rng.uniform(0.88, 1.06), rng.uniform(-0.3, 0.3), jitter(rng, rng.choice(PAINTS + WALLS), 0.08)
    legs, face, head = scale(rng.choice(PAINTS), 0.6), rng.choice(SKINS), scale(rng.choice(SKINS), 0.5)
    cloth, sleeve, trousers, skin, hair = (
        drawing.part(PERSON, colour, (0, 0, 1 / z)) for colour in (coat, scale(coat, 0.75), legs, face, head)
    )
    drawing.shadow_of_box(x, 0.2, z - 0.1, z + 0.1, 1.6)
    for side in (-1, 1):
        drawing.board(trousers, x + side * (0.08 + stride), z, 0, 0.9 * tall, 0.09, -side * stride)
        swing = side * (stride / 2 - 0.08)
        drawing.board(sleeve, x + side * 0.2 - swing, z, 0.8 * tall, 1.44 * tall, 0.06, swing)
    drawing.board(cloth, x, z, (0.82 - rng.choice((0.0, 0.0, 0.3))) * tall, 1.46 * tall, 0.21)
    drawing.oval(hair, x, 1.63 * tall, z, 0.13, 0.15)
    drawing.oval(skin, x, 1.59 * tall, z, 0.1, 0.12)


def jitter(rng: Random, colour: Colour, amount: float) -> Colour:
    red, green, blue = (min(max(value + rng.uniform(-amount, amount), 0.03), 0.95) for value in colour)
    return red, green, blue
