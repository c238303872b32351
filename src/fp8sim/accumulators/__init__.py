"""How the products of one output are summed: one small final class per way, its law and its bound."""
