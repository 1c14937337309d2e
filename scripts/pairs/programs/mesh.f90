! Modules, derived types with type-bound procedures, allocatable arrays, a SELECT CASE, formatted I/O, COMMON,
! computed GOTO and contained procedures.
module shapes
  implicit none
  type, abstract :: shape
    character(len=12) :: name
  contains
    procedure(area_of), deferred :: area
  end type
  abstract interface
    function area_of(this) result(a)
      import :: shape
      class(shape), intent(in) :: this
      real(8) :: a
    end function
  end interface
  type, extends(shape) :: circle
    real(8) :: radius
  contains
    procedure :: area => circle_area
  end type
  type, extends(shape) :: rect
    real(8) :: width, height
  contains
    procedure :: area => rect_area
  end type
  real(8), parameter :: weights(8) = [0.1d0, 0.2d0, 0.3d0, 0.4d0, 0.5d0, 0.6d0, 0.7d0, 0.8d0]
contains
  function circle_area(this) result(a)
    class(circle), intent(in) :: this
    real(8) :: a
    a = acos(-1d0) * this%radius**2
  end function
  function rect_area(this) result(a)
    class(rect), intent(in) :: this
    real(8) :: a
    a = this%width * this%height
  end function
  function unit_name(code) result(text)
    integer, intent(in) :: code
    character(len=10) :: text
    select case (code)
    case (1); text = 'metre'
    case (2); text = 'second'
    case (3); text = 'kilogram'
    case (4); text = 'ampere'
    case (5); text = 'kelvin'
    case (6); text = 'mole'
    case (7); text = 'candela'
    case default; text = 'none'
    end select
  end function
end module

module solver
  implicit none
  integer :: steps
  real(8) :: grid(64, 64)
  common /state/ grid, steps
contains
  subroutine relax(tolerance)
    real(8), intent(in) :: tolerance
    real(8), allocatable :: next(:, :)
    real(8) :: worst
    integer :: i, j
    allocate(next(64, 64))
    do
      next = grid
      do concurrent (i = 2:63, j = 2:63)
        next(i, j) = 0.25d0 * (grid(i-1, j) + grid(i+1, j) + grid(i, j-1) + grid(i, j+1))
      end do
      worst = maxval(abs(next - grid))
      grid = next
      steps = steps + 1
      if (worst < tolerance .or. steps > 1000) exit
    end do
    deallocate(next)
  end subroutine
  function dispatch(n) result(r)
    integer, intent(in) :: n
    integer :: r
    r = 0
    go to (10, 20, 30, 40, 50), n
    return
10  r = steps
    return
20  r = size(grid)
    return
30  r = count(grid > 0.5d0)
    return
40  r = maxloc(grid(1, :), 1)
    return
50  r = int(sum(matmul(grid, transpose(grid))))
  end function
end module

program mesh
  use shapes
  use solver
  implicit none
  class(shape), allocatable :: item
  integer :: n
  character(len=80) :: line
  grid = 0
  grid(1, :) = 1
  steps = 0
  call relax(1d-4)
  do n = 1, 8
    if (mod(n, 2) == 0) then
      item = circle('circle', weights(n))
    else
      item = rect('rect', weights(n), 2d0)
    end if
    write (line, '(A12, F10.4, 1X, A, I8)') item%name, item%area(), unit_name(n), dispatch(n)
    print *, trim(line)
    deallocate(item)
  end do
contains
  recursive function fib(k) result(f)
    integer, intent(in) :: k
    integer :: f
    f = merge(k, fib(k-1) + fib(k-2), k < 2)
  end function
end program
