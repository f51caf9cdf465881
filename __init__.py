"""deit-pipe: run the teacher once, train every DeiT student from its cached answers on exactly the same views."""

__version__ = "0.1.0"
