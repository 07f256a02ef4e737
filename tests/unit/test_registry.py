import pytest

from celery.exceptions import AlreadyRegistered, InvalidTask, NotRegistered
from celery.registry import TaskRegistry
from celery.task import Task


class Add(Task):
    name = "shop.add"

    def run(self, x: int, y: int) -> int:
        return x + y


class AddAgain(Add):
    name = "shop.add"


class Nightly(Task):
    name = "shop.nightly"
    type = "periodic"


class Callable:
    """Neither a task nor a function, but it can be called and has a name."""

    name = "shop.callable"

    def __call__(self) -> int:
        return 1


def pay() -> str:
    return "paid"


@pytest.fixture
def registry() -> TaskRegistry:
    return TaskRegistry()


class TestRegistering:
    def test_a_class_is_registered_as_an_instance(self, registry: TaskRegistry) -> None:
        registry.register(Add)

        assert isinstance(registry["shop.add"], Add)

    def test_an_instance_is_registered_as_it_is(self, registry: TaskRegistry) -> None:
        add = Add()

        registry.register(add)

        assert registry["shop.add"] is add

    def test_a_function_gets_a_name_and_a_type(self, registry: TaskRegistry) -> None:
        def ship() -> None: ...

        registry.register(ship, "shop.ship")

        assert registry["shop.ship"] is ship
        assert (vars(ship)["name"], vars(ship)["type"]) == ("shop.ship", "regular")

    def test_the_classic_keyword_for_the_name_is_understood(self, registry: TaskRegistry) -> None:
        registry.register(pay, task_name="shop.pay")

        assert registry["shop.pay"] is pay

    def test_anything_that_can_be_called_and_has_a_name_will_do(self, registry: TaskRegistry) -> None:
        registry.register(Callable)

        assert registry["shop.callable"]() == 1

    @pytest.mark.parametrize("task", [Add, pay])
    def test_the_same_task_twice_changes_nothing(self, registry: TaskRegistry, task: object) -> None:
        registry.register(task, "shop.same")
        registry.register(task, "shop.same")

        assert list(registry) == ["shop.same"]

    def test_a_second_task_of_the_same_name_is_refused_with_both_origins(self, registry: TaskRegistry) -> None:
        registry.register(Add)

        with pytest.raises(AlreadyRegistered, match=r"'shop\.add' belongs to .*\.Add already, so .*\.AddAgain cannot"):
            registry.register(AddAgain)

    def test_a_function_without_a_name_is_refused_with_the_line_to_write(self, registry: TaskRegistry) -> None:
        def nameless() -> None: ...

        with pytest.raises(InvalidTask, match=r"write tasks\.register\(nameless, 'myapp\.nameless'\)"):
            registry.register(nameless)

    def test_what_cannot_be_called_is_no_task(self, registry: TaskRegistry) -> None:
        with pytest.raises(InvalidTask, match="42 cannot be a task"):
            registry.register(42, "shop.answer")

    @pytest.mark.parametrize("name", ["x" * 256, "a\0b"])
    def test_a_name_that_no_row_can_hold_is_refused(self, registry: TaskRegistry, name: str) -> None:
        with pytest.raises(InvalidTask, match="at most 255 characters and no NUL"):
            registry.register(Add(), name)


class TestFinding:
    def test_an_unknown_name_is_answered_with_what_to_look_at(self, registry: TaskRegistry) -> None:
        registry.register(Add)

        with pytest.raises(
            NotRegistered, match=r"no task named 'blog\.post'; is 'blog' in INSTALLED_APPS.*Known: shop\.add"
        ):
            registry["blog.post"]

    def test_an_empty_registry_says_so(self, registry: TaskRegistry) -> None:
        with pytest.raises(NotRegistered, match="none at all"):
            registry.get_task("shop.add")

    def test_of_many_names_some_are_shown(self, registry: TaskRegistry) -> None:
        for number in range(30):
            registry.register(Add(), f"shop.task{number:02}")

        with pytest.raises(NotRegistered, match=r"shop\.task19 and 10 more"):
            registry["nothing"]

    def test_not_registered_is_a_key_error_with_a_readable_text(self, registry: TaskRegistry) -> None:
        with pytest.raises(KeyError) as caught:
            registry["nothing"]

        assert not str(caught.value).startswith(("'", '"'))

    def test_asking_does_not_register(self, registry: TaskRegistry) -> None:
        assert registry.get("nothing") is None
        assert "nothing" not in registry

    def test_types_are_told_apart(self, registry: TaskRegistry) -> None:
        registry.register(Add)
        registry.register(Nightly)
        registry.register(pay, "shop.pay")

        assert registry.get_all_regular().keys() == {"shop.add", "shop.pay"}
        assert registry.get_all_periodic().keys() == {"shop.nightly"}
        assert registry.get_all().keys() == {"shop.add", "shop.pay", "shop.nightly"}

    def test_what_get_all_returns_is_a_copy(self, registry: TaskRegistry) -> None:
        registry.get_all()["shop.add"] = Add()

        assert not registry


class TestUnregistering:
    @pytest.mark.parametrize("given", ["shop.add", Add, Add()], ids=["by name", "by class", "by instance"])
    def test_a_task_is_forgotten(self, registry: TaskRegistry, given: object) -> None:
        registry.register(Add)

        registry.unregister(given)

        assert not registry

    @pytest.mark.parametrize("given", ["shop.add", Add, object(), None])
    def test_what_is_not_there_cannot_be_forgotten(self, registry: TaskRegistry, given: object) -> None:
        with pytest.raises(NotRegistered):
            registry.unregister(given)


def test_the_classic_exceptions_are_attributes_too() -> None:
    assert TaskRegistry.NotRegistered is NotRegistered
    assert TaskRegistry.AlreadyRegistered is AlreadyRegistered
