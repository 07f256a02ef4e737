"""Orders: something to pay, so that a task has a row to change."""

from django.db import models


class Order(models.Model):
    """An order of the shop. It is paid once, however often somebody tries."""

    number = models.CharField(max_length=64, unique=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    is_paid = models.BooleanField(default=False)
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"<Order: {self.number} {'paid' if self.is_paid else 'open'}>"
