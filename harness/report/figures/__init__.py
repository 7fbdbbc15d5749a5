"""The figures of a board, each a page: after Khakzar, Albarqouni & Navab 2019 (arXiv:1905.03767), Figures 1 to 4, and
Woods, Chen & Teuscher 2019 (arXiv:1906.02494), Figures 1, 4 and 5."""
