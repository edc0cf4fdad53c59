"""Explicit methods up to order 5."""

from fractions import Fraction as F

from isocline.tableaus.tableau import Tableau, floats, hermite, table

EULER = Tableau(
    name="euler",
    order=1,
    a=((),),
    b=(1.0,),
    c=(0.0,),
    dense=((1.0,),),
    dense_order=1,
    citation="Euler 1768, Institutionum calculi integralis",
)

MIDPOINT = Tableau(
    name="midpoint",
    order=2,
    a=((), (0.5,)),
    b=(0.0, 1.0),
    c=(0.0, 0.5),
    embedded=(1.0, 0.0),
    embedded_order=1,
    dense=((1.0, -1.0), (0.0, 1.0)),
    dense_order=2,
    citation="Runge 1895, Math. Ann. 46, doi:10.1007/BF01446807",
)

HEUN = Tableau(
    name="heun",
    order=2,
    a=((), (1.0,)),
    b=(0.5, 0.5),
    c=(0.0, 1.0),
    embedded=(1.0, 0.0),
    embedded_order=1,
    dense=((1.0, -0.5), (0.0, 0.5)),
    dense_order=2,
    citation="Heun 1900, Z. Math. Phys. 45, 23-38",
)

RALSTON = Tableau(
    name="ralston",
    order=2,
    a=table(((), (F(2, 3),))),
    b=(0.25, 0.75),
    c=floats((0, F(2, 3))),
    embedded=(1.0, 0.0),
    embedded_order=1,
    dense=((1.0, -0.75), (0.0, 0.75)),
    dense_order=2,
    citation="Ralston 1962, Math. Comp. 16, doi:10.1090/S0025-5718-1962-0150954-0",
)

RK4 = Tableau(
    name="rk4",
    order=4,
    a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    b=floats((F(1, 6), F(1, 3), F(1, 3), F(1, 6))),
    c=(0.0, 0.5, 0.5, 1.0),
    dense=table(((1, F(-3, 2), F(2, 3)), (0, 1, F(-2, 3)), (0, 1, F(-2, 3)), (0, F(-1, 2), F(2, 3)))),
    dense_order=3,
    citation="Kutta 1901, Z. Math. Phys. 46, 435-453; interpolant: Hairer, Norsett & Wanner 1993, II.6",
)

# The interpolant is the only cubic one that fulfils the four conditions of order 3 with these stages.
RK4_38 = Tableau(
    name="rk4_38",
    order=4,
    a=table(((), (F(1, 3),), (F(-1, 3), 1), (1, -1, 1))),
    b=floats((F(1, 8), F(3, 8), F(3, 8), F(1, 8))),
    c=floats((0, F(1, 3), F(2, 3), 1)),
    dense=table(
        ((1, F(-15, 8), 1), (0, F(15, 8), F(-3, 2)), (0, F(3, 8), 0), (0, F(-3, 8), F(1, 2))),
    ),
    dense_order=3,
    citation="Kutta 1901, Z. Math. Phys. 46, 435-453 (the 3/8 rule)",
)

_BOSH3_B = (F(2, 9), F(1, 3), F(4, 9), F(0))
BOSH3 = Tableau(
    name="bosh3",
    order=3,
    a=table(((), (F(1, 2),), (0, F(3, 4)), _BOSH3_B[:3])),
    b=floats(_BOSH3_B),
    c=floats((0, F(1, 2), F(3, 4), 1)),
    embedded=floats((F(7, 24), F(1, 4), F(1, 3), F(1, 8))),
    embedded_order=2,
    dense=hermite(_BOSH3_B),
    dense_order=3,
    citation="Bogacki & Shampine 1989, Appl. Math. Lett. 2, doi:10.1016/0893-9659(89)90079-7",
)

_DOPRI5_B = (F(35, 384), F(0), F(500, 1113), F(125, 192), F(-2187, 6784), F(11, 84), F(0))
DOPRI5 = Tableau(
    name="dopri5",
    order=5,
    a=table(
        (
            (),
            (F(1, 5),),
            (F(3, 40), F(9, 40)),
            (F(44, 45), F(-56, 15), F(32, 9)),
            (F(19372, 6561), F(-25360, 2187), F(64448, 6561), F(-212, 729)),
            (F(9017, 3168), F(-355, 33), F(46732, 5247), F(49, 176), F(-5103, 18656)),
            _DOPRI5_B[:6],
        )
    ),
    b=floats(_DOPRI5_B),
    c=floats((0, F(1, 5), F(3, 10), F(4, 5), F(8, 9), 1, 1)),
    embedded=floats((F(5179, 57600), 0, F(7571, 16695), F(393, 640), F(-92097, 339200), F(187, 2100), F(1, 40))),
    embedded_order=4,
    dense=hermite(
        _DOPRI5_B,
        extra=(
            F(-12715105075, 11282082432),
            F(0),
            F(87487479700, 32700410799),
            F(-10690763975, 1880347072),
            F(701980252875, 199316789632),
            F(-1453857185, 822651844),
            F(69997945, 29380423),
        ),
    ),
    dense_order=4,
    citation=(
        "Dormand & Prince 1980, J. Comp. Appl. Math. 6, doi:10.1016/0771-050X(80)90013-3; interpolant: Shampine 1986, "
        "as in DOPRI5 of Hairer, Norsett & Wanner 1993"
    ),
)

# The paper's table has misprints: y1's weights are the last row of a, and the last weight of the error is 1/66.
_TSIT5_B = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
    0.0,
)
_TSIT5_ERROR = (
    -0.00178001105222577714,
    -0.0008164344596567469,
    0.007880878010261995,
    -0.1447110071732629,
    0.5823571654525552,
    -0.45808210592918697,
    1 / 66,
)
TSIT5 = Tableau(
    name="tsit5",
    order=5,
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        _TSIT5_B[:6],
    ),
    b=_TSIT5_B,
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    embedded=tuple(x - y for x, y in zip(_TSIT5_B, _TSIT5_ERROR, strict=True)),
    embedded_order=4,
    dense=(
        (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
        (0.0, 0.13169999999999998, -0.2234, 0.1017),
        (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
        (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
        (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
        (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
        (0.0, 1.5, -4.0, 2.5),
    ),
    dense_order=4,
    citation="Tsitouras 2011, Comput. Math. Appl. 62, doi:10.1016/j.camwa.2011.06.002",
)
